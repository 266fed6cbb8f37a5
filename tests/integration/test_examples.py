"""The examples run as they stand, in a folder of their own, against a real Triton."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from support.tiny_networks import slices

EXAMPLES = Path(__file__).parents[2] / "client" / "examples"


def start(*command, **options):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, **options)


@pytest.fixture
def run(tiny_server, tmp_path):
    """Runs an example; returns the lines that it printed. There are scans as the LGG set has them, and a head."""
    for index, share in ((2, 0.25), (10, 0.75)):
        picture = slices(share)[0]
        cv2.imwrite(str(tmp_path / f"slice_{index}.tif"), picture)
        cv2.imwrite(str(tmp_path / f"slice_{index}_mask.tif"), picture[..., 1])
    (tmp_path / "slice_11.png").write_bytes(b"broken")
    # In NIfTI's order of axes; what is white fills three quarters of two of five slices, and no column at the border.
    head = np.stack([np.roll(slices(share)[0][..., 1], 20, 1) for share in (0.25, 0.75, 0.75, 0.25, 0.25)])
    nibabel.save(nibabel.Nifti1Image(head.transpose(2, 1, 0), np.diag([1, 1, 5, 1])), tmp_path / "flair.nii.gz")

    def run(*command):
        told = start(*command, cwd=tmp_path, env=os.environ | {"GLIOGATE_URL": tiny_server.url})
        assert told.returncode == 0, told.stderr
        return told.stdout.splitlines()

    return run


def test_one_slice(run, tmp_path):
    lines = run(EXAMPLES / "one_slice.py", "slice_10.tif")

    assert lines[0] == "tumor, probability 0.750"
    assert lines[1].startswith("49152 pixels in BoundingBox(x=0, y=0")
    assert cv2.imread(str(tmp_path / "overlay.png")).shape == (256, 256, 3)


def test_folder(run):
    clear, tumor, broken = run(EXAMPLES / "folder.py", ".")

    assert (clear, tumor) == ("slice_2.tif: no tumor, 0 pixels", "slice_10.tif: tumor, 49152 pixels")
    assert broken.startswith("slice_11.png: ")


def test_triage(run):
    said, *ranked = run(EXAMPLES / "triage.py", ".")

    assert said.startswith("look at slice_11.png: slice_11.png: is damaged")
    assert ranked == ["0.750 slice_10.tif", "0.250 slice_2.tif"]


def test_volume(run, tmp_path):
    lines = run(EXAMPLES / "volume.py", "flair.nii.gz")

    assert lines[0].startswith("tumor: 491.5 ml, ")
    assert any("FLAIR stands in" in line for line in lines)
    assert nibabel.load(tmp_path / "mask.nii.gz").shape == (256, 256, 5)
    assert cv2.imread(str(tmp_path / "montage.png")) is not None


@pytest.mark.parametrize("example", ["one_slice.py", "folder.py", "triage.py", "volume.py"])
def test_without_an_argument_there_is_a_line_of_usage(example):
    told = start(EXAMPLES / example)

    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith(f"usage: {example}")


def test_own_tests(run):
    assert "1 passed" in run("-m", "pytest", "-q", EXAMPLES / "own_tests.py", "-p", "no:cacheprovider")[-1]
