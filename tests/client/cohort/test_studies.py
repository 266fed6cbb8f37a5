"""Which studies a folder holds."""

import os

import numpy as np
import pytest
from support.volume_files import make_head, make_instances, write_dicom

from gliogate.cohort.studies import find_studies
from gliogate.errors import ImageError


def write(path, size=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def names(folder, pattern="*"):
    return [study.name for study in find_studies(folder, pattern).studies]


def test_the_largest_comes_first(tmp_path):
    write(tmp_path / "a.nii.gz", 10)
    write(tmp_path / "b.nii", 3000)
    for number in range(20):
        write(tmp_path / "c" / f"{number}.dcm", 100)

    found = find_studies(tmp_path, "*")

    assert [(study.name, study.size) for study in found.studies] == [("b.nii", 3000), ("c", 2000), ("a.nii.gz", 10)]
    assert [study.stem for study in found.studies] == ["b", "c", "a"]


def test_what_can_be_no_study_is_left_out_and_named(tmp_path):
    for name in ("a.nii.gz", "a_mask.nii.gz", "participants.tsv", "LICENSE", "picture.png"):
        write(tmp_path / name)
    for name in (".hidden/x", "lost+found/x"):
        write(tmp_path / name)
    np.save(tmp_path / "slices.npy", np.zeros((2, 8, 8), np.uint8))
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "all").symlink_to(tmp_path)

    found = find_studies(tmp_path, "*")

    assert sorted(study.name for study in found.studies) == ["a.nii.gz", "slices.npy"]
    left_out = {"LICENSE", "a_mask.nii.gz", "all", "participants.tsv", "picture.png", "pipe.nii"}
    assert set(found.left_out) == left_out


def test_links_count_and_one_in_a_circle_is_a_study_that_will_fail(tmp_path):
    write(tmp_path / "elsewhere" / "head.nii")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "circle").symlink_to("circle")
    (tmp_path / "in" / "nowhere.nii").symlink_to("absent")

    assert sorted(names(tmp_path / "in")) == ["circle", "linked", "nowhere.nii"]


def test_patterns_look_into_folders(tmp_path):
    for name in ("p1/s1/a.dcm", "p1/s2/a.dcm", "p2/s1/a.dcm", "p2/notes.txt"):
        write(tmp_path / name)

    assert sorted(names(tmp_path, "*/*")) == ["p1/s1", "p1/s2", "p2/s1"]
    assert sorted(names(tmp_path, "p1/*")) == ["p1/s1", "p1/s2"]
    assert sorted(names(tmp_path, "**/*.dcm")) == ["p1/s1/a.dcm", "p1/s2/a.dcm", "p2/s1/a.dcm"]


@pytest.mark.parametrize("pattern", ["", "/x", "../x", "a//b", "a/.."])
def test_a_pattern_stays_in_the_folder(pattern, tmp_path):
    with pytest.raises(ValueError, match="no pattern"):
        find_studies(tmp_path, pattern)


def test_a_study_lies_in_no_other(tmp_path):
    write(tmp_path / "p1" / "s1" / "a.nii")

    with pytest.raises(ValueError, match="lies in"):
        find_studies(tmp_path, "**")


def test_a_folder_of_one_head_is_told_from_one_of_studies(tmp_path):
    write(tmp_path / "pictures" / "head_1.tif")
    write_dicom(tmp_path / "series", make_instances(make_head()))

    for name in ("pictures", "series"):
        with pytest.raises(ImageError, match="name the folder above"):
            find_studies(tmp_path / name, "*")
    assert sorted(names(tmp_path)) == ["pictures", "series"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_a_study_that_will_fail(tmp_path):
    write(tmp_path / "open" / "a.nii")
    (tmp_path / "shut").mkdir(mode=0)

    assert sorted(names(tmp_path, "*/*")) == ["open/a.nii", "shut"]
    with pytest.raises(PermissionError):
        find_studies(tmp_path / "shut", "*")


def test_a_folder_that_is_none_is_an_error(tmp_path):
    with pytest.raises(NotADirectoryError):
        find_studies(write(tmp_path / "file"), "*")
    assert names(tmp_path, "absent*") == []
