"""Which files of a folder are scans, in which order, under which names, and which mask belongs to each."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from gliogate import ImageError
from gliogate.scans import find_scans


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(*paths: Path) -> list[str]:
    return [scan.path.name for scan in find_scans(paths)]


def test_a_folder_gives_its_scans_in_natural_order(tmp_path):
    touch(tmp_path, "s_10.tif", "s_2.TIF", "s_2_mask.tif", "s_1.png", "s_1_overlay.png", "data.csv", ".s_3.png")

    assert found(tmp_path) == ["s_1.png", "s_2.TIF", "s_10.tif"]


def test_folders_are_searched_to_the_bottom(tmp_path):
    touch(tmp_path, "case_10/s_1.tif", "case_2/s_1.tif", "case_2/deep/s_1.tif")

    assert [scan.name for scan in find_scans([tmp_path])] == [
        Path("case_2/deep/s_1"),
        Path("case_2/s_1"),
        Path("case_10/s_1"),
    ]


def test_names_never_clash(tmp_path):
    touch(tmp_path, "a/s.tif", "b/s.tif", "a/s.png", "a/t.png")

    scans = find_scans([tmp_path / "b" / "s.tif", tmp_path / "a"])

    assert [str(scan.name) for scan in scans] == ["b/s", "a/s.png", "a/s.tif", "a/t"]


def test_a_name_that_tells_two_apart_is_no_other_scans(tmp_path):
    scans = find_scans([touch(tmp_path, "x.tif", "x.png", "x.tif.png")])

    assert [str(scan.name) for scan in scans] == ["x.png", "x.tif", "x.tif.png"]


def test_a_single_file_keeps_its_stem_and_counts_once(tmp_path):
    scans = find_scans([touch(tmp_path, "s.tif") / "s.tif", tmp_path])

    assert [scan.name for scan in scans] == [Path("s")]


def test_a_named_file_is_taken_unseen_so_that_reading_it_tells_what_is_wrong(tmp_path):
    assert found(tmp_path / "gone.png", tmp_path / "notes.txt") == ["gone.png", "notes.txt"]


def test_paths_may_be_text_but_one_alone_is_a_mistake(tmp_path):
    touch(tmp_path, "s.tif")

    assert [scan.path for scan in find_scans([str(tmp_path)])] == [tmp_path / "s.tif"]
    for one in (tmp_path, str(tmp_path)):
        with pytest.raises(TypeError, match="takes several paths, this is one"):
            find_scans(one)


def test_a_folder_without_scans_is_named(tmp_path):
    touch(tmp_path, "good/s.tif", "empty/s_mask.tif")

    with pytest.raises(ImageError, match=r"empty: no scans in this folder, that is no \.bmp"):
        find_scans([tmp_path / "good", tmp_path / "empty"])


def test_masks_alone_are_no_scans(tmp_path):
    with pytest.raises(ImageError, match="only masks"):
        find_scans([touch(tmp_path, "s_mask.tif") / "s_mask.tif"])


@pytest.mark.parametrize("white", [1, 255])
def test_the_mask_beside_a_scan_is_known_whatever_its_format(tmp_path, white):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 2:4] = white
    touch(tmp_path, "s.tif", "t.tif")
    cv2.imwrite(str(tmp_path / "s_mask.png"), mask)

    scan, without = find_scans([tmp_path])

    assert np.array_equal(scan.read_known_mask(), mask // white)
    assert without.read_known_mask() is None


def refuse_to_open(monkeypatch, folder: Path) -> None:
    """Whoever runs the tests may be one whom nothing is refused."""
    scandir = os.scandir

    def refuse(path):
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    refuse_to_open(monkeypatch, touch(tmp_path, "a/s.tif", "b/s.tif") / "b")

    with pytest.raises(ImageError, match=r"/b: Permission denied$"):
        find_scans([tmp_path])
