"""Reading the Kaggle layout and splitting it by patient."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from gliogate.phantom import make_phantoms
from training.data import DataError, read_kaggle, split_patients

PATIENTS = ["TCGA_CS_0001", "TCGA_DU_0002", "TCGA_DU_0003", "TCGA_FG_0004", "TCGA_HT_0005"]
CASE = "TCGA_DU_0002_20000101"


@pytest.fixture
def copy(kaggle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kaggle, tmp_path / "copy"))


def test_patient_is_the_folder_and_not_what_the_csv_says(kaggle: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = read_kaggle(kaggle)
    assert sorted(set(dataset.patients)) == PATIENTS
    assert all(name.startswith(patient) for name, patient in zip(dataset.names, dataset.patients, strict=True))
    assert "patient_id disagrees with the folder of image_path in 48 of 60 rows" in caplog.text


def test_slices_come_in_the_order_of_the_axis(kaggle: Path) -> None:
    names = read_kaggle(kaggle).of(["TCGA_DU_0002"]).names
    assert [int(name.rpartition("_")[2]) for name in names] == list(range(1, 13))


def test_pictures_keep_their_channel_order_and_masks_are_binary(kaggle: Path) -> None:
    dataset = read_kaggle(kaggle).of(["TCGA_CS_0001"])
    for row, phantom in enumerate(make_phantoms(12, prevalence=0.5, seed=20)):
        np.testing.assert_array_equal(dataset.images[row], phantom.image)
        np.testing.assert_array_equal(dataset.masks[row], phantom.mask)
        assert dataset.tumor[row] == phantom.tumor


def test_no_patient_is_on_both_sides_of_a_split(kaggle: Path) -> None:
    dataset = read_kaggle(kaggle)
    training, validation = split_patients(dataset, validation=0.4, seed=3)
    assert sorted(training + validation) == PATIENTS
    assert len(validation) == 2
    assert split_patients(dataset, validation=0.4, seed=3) == (training, validation)
    assert not set(dataset.of(training).names) & set(dataset.of(validation).names)


def test_folder_without_slices_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no <case>/<case>_<n>\.tif here"):
        read_kaggle(tmp_path)


def test_missing_mask_is_named(copy: Path) -> None:
    (copy / CASE / f"{CASE}_3_mask.tif").unlink()
    with pytest.raises(DataError, match=rf"{CASE}_3_mask\.tif: the mask of {CASE}_3\.tif is missing"):
        read_kaggle(copy)


def test_unreadable_slice_is_named(copy: Path) -> None:
    (copy / CASE / f"{CASE}_3.tif").write_bytes(b"no picture")
    with pytest.raises(DataError, match=rf"{CASE}_3\.tif: cannot be read"):
        read_kaggle(copy)


def test_slice_of_another_size_is_named(copy: Path) -> None:
    cv2.imwrite(str(copy / CASE / f"{CASE}_3.tif"), np.zeros((100, 90, 3), np.uint8))
    with pytest.raises(DataError, match=rf"{CASE}_3\.tif: shape \(100, 90, 3\), expected \(256, 256, 3\)"):
        read_kaggle(copy)
