"""Folders of pictures, arrays and what `read_volume` is told become volumes, or errors that say why not."""

import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from support.volume_files import write_kaggle

import gliogate.volumes
from gliogate import ImageError
from gliogate.phantom import make_phantoms
from gliogate.volumes import arrays, limits, read_volume
from gliogate.volumes.sequences import recognise

PHANTOMS = list(make_phantoms(12, seed=3))
SLICES = np.stack([phantom.image for phantom in PHANTOMS])
MASKS = np.stack([phantom.mask for phantom in PHANTOMS])


def test_a_folder_of_numbered_slices_is_a_volume(tmp_path):
    volume = read_volume(write_kaggle(tmp_path / "TCGA_CS_4941", SLICES, MASKS))

    assert np.array_equal(volume.slices, SLICES)
    assert volume.sequences == ("pre-contrast", "FLAIR", "post-contrast")
    assert volume.ranges == ((0, 255),) * 3
    assert [path.name for path in volume.source] == [f"TCGA_CS_4941_{number}.tif" for number in range(1, 13)]
    assert volume.spacing_mm is volume.affine is volume.plane is volume.voxel_ml is None
    assert "spacing and orientation are unknown" in volume.notes[0]


def test_where_flair_stands_in_the_volume_says_so(tmp_path):
    slices = SLICES.copy()
    slices[..., 0] = slices[..., 1]

    volume = read_volume(write_kaggle(tmp_path / "patient", slices, MASKS))

    assert volume.sequences == ("FLAIR", "post-contrast")
    assert volume.notes[0].endswith("FLAIR stands in for pre-contrast")


def test_16_bit_pictures_are_scaled_together(tmp_path):
    for number in range(1, 4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 9), number * 1000, np.uint16))

    volume = read_volume(tmp_path)

    assert volume.slices[:, 0, 0, 0].tolist() == [0, 128, 255]
    assert volume.ranges == ((1000, 3000),) * 3
    assert volume.sequences == ("FLAIR",)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_npy_files_and_arrays(tmp_path, dtype):
    array = SLICES[..., 1].astype(dtype)
    np.save(tmp_path / "slices.npy", array)

    from_file, from_array = read_volume(tmp_path / "slices.npy"), read_volume(array)

    assert from_file.slices.shape == (12, 256, 256, 3)
    assert np.array_equal(from_file.slices, from_array.slices)
    assert from_file.sequences == ("FLAIR",)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((256, 256)), r"has shape \(256, 256\), expected \(N, H, W\) or \(N, H, W, 3\)"),
        (np.zeros((256, 256, 3)), r"has shape \(256, 256, 3\)"),
        (np.zeros((2, 8, 8, 4)), r"has shape \(2, 8, 8, 4\)"),
        (np.zeros((0, 8, 8)), "expected at least one voxel along every axis"),
        (np.zeros((2, 8, 8), complex), "has voxels of type complex128"),
        (np.full((2, 8, 8), np.nan), r"128 voxels are NaN, .* the first at \(0, 0, 0\)"),
        (np.full((2, 8, 8), 1e200), r"beyond 1e\+30"),
        (np.broadcast_to(np.uint8(0), (4097, 8, 8)), "4097 x 8 x 8 is too large"),
    ],
)
def test_arrays_that_are_no_volume(array, message):
    with pytest.raises(ImageError, match=message):
        read_volume(array)


def test_npy_files_that_lie(tmp_path):
    path = tmp_path / "slices.npy"
    np.save(path, SLICES)
    whole = path.read_bytes()

    path.write_bytes(whole.replace(b"(12, 256, 256, 3)", b"(99999999, 9, 9) "))
    with pytest.raises(ImageError, match=r"slices\.npy: is no whole \.npy file of numbers"):
        read_volume(path)
    path.write_bytes(whole[:100])
    with pytest.raises(ImageError, match=r"slices\.npy: is no whole \.npy file of numbers"):
        read_volume(path)
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(ImageError, match=r"slices\.npy: is no whole \.npy file of numbers"):
        read_volume(path)


def test_pictures_too_large_for_a_volume_are_not_decoded(tmp_path, monkeypatch):
    folder = write_kaggle(tmp_path / "patient", SLICES, MASKS)
    monkeypatch.setattr(limits, "MAX_VOXELS", 12 * 256 * 256 - 1)
    monkeypatch.setattr(arrays, "read_pixels", None)

    with pytest.raises(ImageError, match="patient: pictures and their size: 12 x 256 x 256 is too large"):
        read_volume(folder)


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    folder = write_kaggle(tmp_path / "study" / "patient", SLICES, MASKS)
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(ImageError, match=r"patient: Permission denied$"):
        read_volume(tmp_path)


def test_pictures_that_do_not_belong_together_are_named(tmp_path):
    folder = write_kaggle(tmp_path / "patient", SLICES, MASKS)
    cv2.imwrite(str(folder / "patient_5.tif"), SLICES[4, :200])

    with pytest.raises(
        ImageError, match=r"patient_5\.tif: has shape \(200, 256, 3\) of uint8, expected \(256, 256, 3\)"
    ):
        read_volume(folder)

    (folder / "patient_5.tif").write_bytes(b"II*\0")
    with pytest.raises(ImageError, match=r"patient_5\.tif: is damaged, cut short"):
        read_volume(folder)

    shutil.copytree(folder, tmp_path / "second")
    with pytest.raises(ImageError, match="pictures in 2 folders, expected one: a folder is a volume"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "No such file or directory"),
        ("a.txt", r"is no volume; expected DICOM \(a file, a folder or a zip\), NIfTI"),
        ("a.png", "is no volume: a volume is a folder of such"),
        ("empty", "no scans in this folder"),
        ("a.zip", "is no volume"),
    ],
)
def test_what_is_no_volume_is_named(tmp_path, name, message):
    for file in ("a.txt", "a.png", "a.zip"):
        (tmp_path / file).write_bytes(b"text")
    (tmp_path / "empty").mkdir()

    with pytest.raises(ImageError, match=message) as raised:
        read_volume(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ImageError, match="pipe: is no file and no folder"):
        read_volume(tmp_path / "pipe")


def test_wrong_arguments_are_named(tmp_path):
    for arguments, message in [
        (({"t1": "a"},), "'t1' is no sequence, expected pre, flair, post"),
        (({"flair": "nowhere"},), "nowhere: No such file or directory"),
        ((17,), "a volume is read from a path, an array or a mapping, not int"),
    ]:
        with pytest.raises(ImageError, match=message):
            read_volume(*arguments)
    folder = write_kaggle(tmp_path / "patient", SLICES, MASKS)
    with pytest.raises(ImageError, match="series chooses among those of a DICOM source, which this is not"):
        read_volume(folder, series="1")
    with pytest.raises(ImageError, match="is no sequence, expected DICOM"):
        read_volume({"flair": folder})
    with pytest.raises(ImageError, match="series is one name, but there are several sources"):
        read_volume({"flair": folder}, series="1")


@pytest.mark.parametrize(
    ("description", "sequence"),
    [
        ("AX T2 FLAIR", "flair"),
        ("Sag 3D FLAIR SPACE +C", "flair"),
        ("t2_tirm_tra_dark-fluid", "flair"),
        ("AX T1 FLAIR", None),
        ("AX T1", "pre"),
        ("T1 SE PRE GAD", "pre"),
        ("AX T1 W/O CONTRAST", "pre"),
        ("t1_mprage_sag native", "pre"),
        ("AX T1 POST", "post"),
        ("AX T1+C", "post"),
        ("T1 C+", "post"),
        ("t1_mprage_tra_KM", "post"),
        ("AX T1 GD", "post"),
        ("SUB T1 POST-PRE", "derived"),
        ("x_flair_mask", "derived"),
        ("sub_01_flair", "flair"),
        ("AX T2", None),
        ("ADC", "derived"),
        ("3-plane LOCALISER", "derived"),
        ("", None),
    ],
)
def test_sequences_are_told_by_what_they_are_called(description, sequence):
    assert recognise(description) == sequence


def test_a_contrast_agent_makes_t1_post_contrast_unless_the_name_says_otherwise():
    assert recognise("AX T1", contrast_agent=True) == "post"
    assert recognise("AX T1 PRE", contrast_agent=True) is None
    assert recognise("AX FLAIR", contrast_agent=True) == "flair"


def test_all_is_sorted_and_true():
    assert gliogate.volumes.__all__ == sorted(gliogate.volumes.__all__)
    assert all(hasattr(gliogate.volumes, name) for name in gliogate.volumes.__all__)


def test_importing_loads_no_extra():
    code = "import sys, gliogate.volumes; print([m for m in ('pydicom', 'nibabel', 'highdicom') if m in sys.modules])"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
