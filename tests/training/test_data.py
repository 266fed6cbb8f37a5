"""Reading the Kaggle layout: what is there, what is wrong with it, and what is kept for the next time."""

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from gliogate.phantom import make_phantoms
from training.data import holdout_split, read_kaggle
from training.errors import DataError

PATIENTS = ["TCGA_CS_0001", "TCGA_DU_0002", "TCGA_DU_0003", "TCGA_FG_0004", "TCGA_HT_0005"]
CASE = "TCGA_DU_0002_20000101"
IMAGE, MASK = Path(CASE, f"{CASE}_3.tif"), Path(CASE, f"{CASE}_3_mask.tif")


@pytest.fixture
def copy(kaggle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kaggle, tmp_path / "copy"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_patient_is_the_folder_and_not_what_the_csv_says(kaggle: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = read_kaggle(kaggle)
    assert sorted(set(dataset.patients)) == PATIENTS
    assert all(name.startswith(patient) for name, patient in zip(dataset.names, dataset.patients, strict=True))
    assert "patient_id disagrees with the folder of image_path in 48 of 60 rows" in caplog.text


@pytest.mark.parametrize("table", ["", "a,b\n1,2\n", "image_path,patient_id\n,\n\x00,\n", "\xff\xfe"])
def test_csv_that_makes_no_sense_is_left_alone(copy: Path, table: str) -> None:
    (copy / "data_mask.csv").write_text(table, encoding="latin-1")
    assert len(read_kaggle(copy)) == 60


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
    split = holdout_split(dataset, validation=0.4, seed=3)
    assert sorted(split.training + split.validation) == PATIENTS
    assert not set(dataset.of(split.training).names) & set(dataset.of(split.validation).names)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("nowhere", "nowhere: No such file or directory; expected the folder of the Kaggle download"),
        (
            "kaggle/data_mask.csv",
            "data_mask.csv: Not a directory; expected the folder of the Kaggle download, unpacked",
        ),
        ("empty", r"empty: no <case>/<case>_<n>\.tif here; expected the folders of the Kaggle download"),
        (".", r"no <case>/<case>_<n>\.tif here; they are one level deeper, in \S+/kaggle"),
        (f"kaggle/{CASE}", r"this is the folder of one case, expected the one above, \S+/kaggle"),
    ],
)
def test_folder_that_is_not_the_dataset_is_named(kaggle: Path, tmp_path: Path, root: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(kaggle, tmp_path / "kaggle")
    with pytest.raises(DataError, match=message):
        read_kaggle(tmp_path / root)


def picture(*shape: int, dtype: type = np.uint8, value: int = 0) -> bytes:
    return cv2.imencode(".tif", np.full(shape, value, dtype))[1].tobytes()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (MASK, None, r"_3_mask\.tif: the mask of TCGA_DU_0002_20000101_3\.tif is missing"),
        (IMAGE, None, r"_3_mask\.tif: the slice of this mask is missing"),
        (IMAGE, b"no picture", r"_3\.tif: cannot be read as a picture"),
        (MASK, b"", r"_3_mask\.tif: cannot be read as a picture"),
        (IMAGE, picture(100, 90, 3), r"_3\.tif: shape \(100, 90, 3\), expected \(256, 256, 3\)"),
        (IMAGE, picture(256, 256), r"_3\.tif: shape \(256, 256\), expected \(256, 256, 3\)"),
        (IMAGE, picture(256, 256, 3, dtype=np.uint16), r"_3\.tif: values of type uint16, expected uint8"),
        (MASK, picture(256, 256, 3), r"_3_mask\.tif: shape \(256, 256, 3\), expected \(256, 256\)"),
        (MASK, picture(256, 256, value=1), r"_3_mask\.tif: a mask of values up to 1, expected 0 and 255"),
        (Path(CASE, f"{CASE}_overlay.tif"), b"", rf"_overlay\.tif: name not known, expected {CASE}_<n>\.tif or"),
        (Path(CASE, "TCGA_DU_0003_20000101_3.tif"), b"", r"0003_20000101_3\.tif: name not known"),
        (Path(CASE, f"{CASE}_3.tiff"), b"", rf"_3\.tiff: names the same as {CASE}_3\.tif, expected one of them"),
        (Path("TCGA_DU_0009_20000101", "notes.txt"), b"", "TCGA_DU_0009_20000101: no slice in this folder"),
    ],
)
def test_file_in_trouble_is_named(copy: Path, file: Path, content: bytes | None, message: str) -> None:
    if content is None:
        (copy / file).unlink()
    else:
        (copy / file).parent.mkdir(exist_ok=True)
        (copy / file).write_bytes(content)
    with pytest.raises(DataError, match=f"{message}[^;]*$"):
        read_kaggle(copy)


def test_further_files_in_trouble_are_counted(copy: Path) -> None:
    (copy / MASK).unlink()
    (copy / CASE / f"{CASE}_5.tif").write_bytes(b"no picture")
    (copy / CASE / f"{CASE}_7_mask.tif").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"is missing; 2 more in trouble, `python -m training explore` lists them all$"):
        read_kaggle(copy)


def test_files_of_no_concern_are_passed_by(copy: Path) -> None:
    (copy / CASE / f"._{CASE}_3.tif").write_bytes(b"what a Mac leaves behind")
    (copy / CASE / "Thumbs.db").write_bytes(b"what Windows leaves behind")
    (copy / ".git").mkdir()
    assert len(read_kaggle(copy)) == 60


def test_cache_gives_the_same_without_reading_again(copy: Path, cache: Path) -> None:
    plain, first = read_kaggle(copy), read_kaggle(copy, cache=cache)
    scribble_unseen(copy / IMAGE)
    second = read_kaggle(copy, cache=cache)
    for dataset in (first, second):
        np.testing.assert_array_equal(dataset.images, plain.images)
        np.testing.assert_array_equal(dataset.masks, plain.masks)


def scribble_unseen(file: Path) -> None:
    """Spoils a file, and leaves its size and time as they are."""
    before = file.stat()
    file.write_bytes(b"?" * before.st_size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_cache_follows_the_files(copy: Path, cache: Path) -> None:
    before = read_kaggle(copy, cache=cache)
    (copy / IMAGE).write_bytes(picture(256, 256, 3, value=9))
    after = read_kaggle(copy, cache=cache)
    changed = (after.images != before.images).any(axis=(1, 2, 3))
    assert after.names[changed].tolist() == [IMAGE.stem]
    assert len(list(cache.glob("*.npy"))) == 1, "what is out of date is not kept"


def test_two_datasets_share_a_cache(kaggle: Path, copy: Path, cache: Path) -> None:
    (copy / IMAGE).write_bytes(picture(256, 256, 3))
    read_kaggle(kaggle, cache=cache)
    read_kaggle(copy, cache=cache)
    assert len(list(cache.glob("*.npy"))) == 2


@pytest.mark.parametrize(
    "damage", [lambda kept: kept[:-1], lambda kept: kept[:50], lambda _: b"", lambda _: b"PK\x03\x04 no array"]
)
def test_damaged_cache_is_rebuilt(kaggle: Path, cache: Path, damage: Callable[[bytes], bytes]) -> None:
    expected = read_kaggle(kaggle, cache=cache).images.copy()
    (kept,) = cache.glob("*.npy")
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    np.testing.assert_array_equal(read_kaggle(kaggle, cache=cache).images, expected)
    assert kept.read_bytes() == whole


def test_full_disk_costs_the_cache_only(kaggle: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        dataset = read_kaggle(kaggle, cache=cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(dataset) == 60
    assert f"{cache}: the decoded slices cannot be kept here (File too large); going on without" in caplog.text
    assert [path.name for path in cache.iterdir()] == [".lock"], "no half of a cache is left"


def test_trouble_is_named_also_with_a_cache(copy: Path, cache: Path) -> None:
    read_kaggle(copy, cache=cache)
    (copy / MASK).unlink()
    (copy / MASK).symlink_to("nowhere")
    with pytest.raises(DataError, match=r"_3_mask\.tif: cannot be read \(No such file or directory\)"):
        read_kaggle(copy, cache=cache)
