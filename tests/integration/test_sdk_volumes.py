"""`gliogate analyze` on volumes, on a real Triton: every kind of input in, every format out."""

import csv
import json
import os
import re
import signal
import zipfile

import cv2
import highdicom
import nibabel
import numpy as np
import pytest
from support.signals import signal_triton
from support.tiny_networks import slices
from support.volume_files import make_instances, write_dicom, write_kaggle, write_nifti

from gliogate import Client
from gliogate.cli import heads, main
from gliogate.embedded import EmbeddedServer
from gliogate.volumes import formats

LEVELS = (0.25, 0.75, 0.75, 0.25)
"""How much of each slice is white: two of the four show tumor."""

SPACING = (1.0, 1.0, 5.0)
TUMOR_ML = pytest.approx(2 * 192 * 256 * 5 / 1000)


def make_head(levels=LEVELS) -> np.ndarray:
    """uint8 (256, 256, N), (i, j, k) = (column, row, slice) as NIfTI has it."""
    return np.stack([slices(level)[0][..., 1] for level in levels]).transpose(2, 1, 0)


@pytest.fixture
def study(tmp_path):
    """A folder of DICOM files whose order says nothing."""
    return write_dicom(tmp_path / "study", make_instances(make_head(), np.diag([*SPACING, 1.0])))


@pytest.fixture
def nifti(tmp_path):
    return write_nifti(tmp_path / "flair.nii.gz", make_head(), np.diag([*SPACING, 1.0]))


@pytest.fixture
def zipped(study, tmp_path):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in study.iterdir():
            archive.write(file, f"deep/{file.name}")
    return path


@pytest.fixture
def analyze(tiny_server, capsys, tmp_path):
    """Runs the command with its output in `out`; returns the exit code, what stdout got and the JSON lines."""

    def analyze(*arguments):
        lines = tmp_path / "lines.json"
        options = ["--url", tiny_server.url, "--output", str(tmp_path / "out"), "--json", str(lines)]
        code = main(["analyze", *map(str, arguments), *options])
        return code, capsys.readouterr().out, [json.loads(line) for line in lines.read_text().splitlines()]

    return analyze


@pytest.mark.filterwarnings("ignore")  # highdicom's own.
def test_volumes_and_pictures_in_one_command(analyze, study, nifti, zipped, tmp_path):
    cv2.imwrite(str(tmp_path / "slice.png"), slices(0.75)[0])
    np.save(tmp_path / "head.npy", slices(*LEVELS))

    code, told, records = analyze(study, nifti, zipped, tmp_path / "slice.png", tmp_path / "head.npy")

    assert code == 0
    assert "1 scans, 1 with tumor" in told
    assert "4 volumes, 4 with tumor" in told
    # Among its neighbours each slice of the two is less sure of itself than alone, 0.750.
    assert re.search(r"^ *study .* 0\.634 .* tumor .* 491\.5 +1\.00 .* 1 .* 2 .* 4", told, re.MULTILINE)
    assert re.search(r"^ *head .* 0\.634 .* tumor +- +1\.00 +- +1 +2 +4", told, re.MULTILINE)
    assert "note: " in told
    picture, *volumes = records
    assert picture["mask"] == str(tmp_path / "out" / "slice_mask.png")
    assert [volume["tumor_volume_ml"] for volume in volumes] == [TUMOR_ML, TUMOR_ML, TUMOR_ML, None]
    out = tmp_path / "out"
    # The zip and the folder would have one name: each keeps its own whole one.
    assert {path.name for path in out.iterdir()} == {
        "slice_mask.png",
        "slice_overlay.png",
        *(f"study{ending}" for ending in ("_seg.dcm", "_montage.png", "_slices.csv", ".json")),
        *(f"study.zip{ending}" for ending in ("_seg.dcm", "_montage.png", "_slices.csv", ".json")),
        *(f"flair{ending}" for ending in ("_mask.nii.gz", "_montage.png", "_slices.csv", ".json")),
        *(f"head{ending}" for ending in ("_mask.nii.gz", "_montage.png", "_slices.csv", ".json")),
    }
    for volume in volumes:
        assert all(os.path.exists(file) for file in volume["files"].values())  # noqa: PTH110
    mask = nibabel.load(out / "flair_mask.nii.gz")
    assert np.array_equal(mask.affine, nibabel.load(nifti).affine)
    assert np.count_nonzero(mask.dataobj) == 2 * 192 * 256
    assert highdicom.seg.segread(out / "study_seg.dcm").NumberOfFrames == 2
    with (out / "study_slices.csv").open(newline="") as file:
        assert [row["area_px"] for row in csv.DictReader(file)] == ["0", "49152", "49152", "0"]
    assert json.loads((out / "study.json").read_text())["tumor_volume_ml"] == TUMOR_ML


@pytest.mark.filterwarnings("ignore")
def test_only_the_formats_that_were_named_are_written(analyze, study, tmp_path):
    code, _, (record,) = analyze(study, "--format", "overlays,nifti")

    assert code == 0
    assert set(record["files"]) == {"overlays", "nifti"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"study_mask.nii.gz", "study_overlays"}
    assert len(list((tmp_path / "out" / "study_overlays").iterdir())) == len(LEVELS)


def test_a_volume_that_cannot_be_written_so_is_told_before_it_is_sent(analyze, nifti):
    code, told, (record,) = analyze(nifti, "--format", "dicom-seg", "--timeout-s", "0.000001")

    assert code == 1
    assert record["error"].endswith("flair.nii.gz: is not DICOM, to whose instances a DICOM segmentation has to refer")
    assert "1 volumes, 0 with tumor, 1 failed" in told


@pytest.mark.filterwarnings("ignore")
def test_a_head_of_which_no_dicom_segmentation_can_be_made_is_written_as_nifti(analyze, tmp_path):
    """An anonymizer took out what a segmentation has to repeat; of the other head there is one slice."""
    affine = np.diag([*SPACING, 1.0])
    without_study = make_instances(make_head(), affine)
    for instance in without_study:
        del instance.StudyInstanceUID
    (alone,) = make_instances(make_head((0.75,))[::-1], affine)
    del alone.SliceThickness
    folders = write_dicom(tmp_path / "without_study", without_study), write_dicom(tmp_path / "alone", [alone])

    code, told, records = analyze(*folders)

    assert code == 0
    for record in records:
        assert set(record["files"]) == {"montage", "csv", "json", "nifti"}
        assert any(note.startswith("the mask is written as NIfTI, since the source") for note in record["notes"])
    assert records[0]["tumor_volume_ml"] == TUMOR_ML
    assert told.count("note: the mask is written as NIfTI, since ") == 2


@pytest.mark.filterwarnings("ignore")
def test_a_format_that_was_named_and_cannot_be_is_an_error_beside_what_was_found(analyze, tmp_path):
    instances = make_instances(make_head(), np.diag([*SPACING, 1.0]))
    for instance in instances:
        del instance.StudyInstanceUID

    code, told, (record,) = analyze(write_dicom(tmp_path / "head", instances), "--format", "dicom-seg,nifti,csv")

    assert code == 1
    assert "lacks what a DICOM segmentation repeats of it" in record["error"]
    assert set(record["files"]) == {"nifti", "csv"}
    assert record["tumor_volume_ml"] == TUMOR_ML
    assert re.search(r"head .* tumor .* 491\.5", told)


def test_a_head_without_tumor_is_no_failure(analyze, tmp_path):
    affine = np.diag([*SPACING, 1.0])
    clear = write_dicom(tmp_path / "clear", make_instances(make_head((0.25, 0.125)), affine))

    code, _, (record,) = analyze(clear)

    assert code == 0
    assert record["tumor"] is False
    assert set(record["files"]) == {"montage", "csv", "json"}


def test_a_folder_of_pictures_as_one_head(analyze, tmp_path):
    case = write_kaggle(tmp_path / "case.1", slices(*LEVELS), np.zeros((4, 256, 256), np.uint8))

    code, _, (record,) = analyze(case, "--volume")

    assert code == 0
    assert [row["tumor"] for row in record["slices"]] == [False, True, True, False]
    assert [row["verdict"] for row in record["slices"]] == ["no tumor", "tumor", "tumor", "no tumor"]
    assert (tmp_path / "out" / "case.1_montage.png").is_file()


def test_three_sequences_of_one_head(analyze, nifti, tmp_path):
    # The networks answer by FLAIR alone; that the others were read is in what is said of them.
    for kind in ("pre", "post"):
        write_nifti(tmp_path / f"{kind}.nii", make_head((0.5,) * 4), np.diag([*SPACING, 1.0]))

    code, _, (record,) = analyze(nifti, "--pre", tmp_path / "pre.nii", "--post", tmp_path / "post.nii")

    assert code == 0
    assert record["sequences"] == ["pre-contrast", "FLAIR", "post-contrast"]
    assert record["tumor_volume_ml"] == TUMOR_ML


@pytest.mark.filterwarnings("ignore")
def test_one_series_of_several(analyze, study):
    affine = np.diag([*SPACING, 1.0])
    again = make_instances(make_head((0.75,) * 4), affine, SeriesNumber=2, SeriesInstanceUID="1.2.3")
    write_dicom(study, again)

    code, told, _ = analyze(study)
    assert code == 1
    assert "more than one flair" in told
    code, _, (record,) = analyze(study, "--series", "2", "--format", "json")
    assert code == 0
    assert record["tumor_volume_ml"] == pytest.approx(4 * 192 * 256 * 5 / 1000)


def test_specks_are_dropped_and_a_broken_volume_costs_only_itself(analyze, nifti, tmp_path):
    (tmp_path / "broken.nii").write_bytes(b"no")

    code, told, (dropped, broken) = analyze(nifti, tmp_path / "broken.nii", "--min-component-ml", "600")

    assert code == 1
    assert dropped["tumor_volume_ml"] == 0
    assert (dropped["verdict"], dropped["tumor"]) == ("suspicious", False)
    assert "broken.nii" in broken["error"]
    assert "2 volumes, 0 with tumor, 1 suspicious, 1 to look at, 1 failed" in told


def test_nothing_but_data_on_stdout_where_it_goes_there(tiny_server, nifti, capsys):
    assert main(["analyze", str(nifti), "--url", tiny_server.url, "--json", "-"]) == 0

    output, error = capsys.readouterr()
    assert json.loads(output)["tumor"] is True
    assert error == "1 volumes, 1 with tumor\n"


def test_doctor_asks_the_server(tiny_server, capsys):
    assert main(["doctor", "--url", tiny_server.url]) == 0

    last = capsys.readouterr().out.splitlines()[-1]
    told = r"Triton 2\.\d+\.\d; tumor_detector 1, .*up to 128 requests wait; the gate opens from 0\.5; a detection"
    assert re.search(rf"^ok +server .* {told}", last)


def test_when_the_server_is_lost_the_volumes_left_fail_at_once(tiny_repository, nifti):
    volumes = [heads.Head(nifti, nifti, nifti)] * 20
    wanted = heads.Wanted(in_flight=4, min_component_ml=0, output=None, formats=None)
    with EmbeddedServer(tiny_repository) as server, Client(server.url) as client:
        rows = heads.analyze_heads(client, volumes, wanted)
        assert next(rows).error is None
        signal_triton(server, signal.SIGKILL)
        left = list(rows)

    assert len(left) == 19
    assert len({row.error for row in left}) == 1
    assert left[0].error.startswith("no Triton answers gRPC")


def test_what_is_asked_for_and_not_installed_names_the_extra(nifti, monkeypatch, capsys):
    monkeypatch.setitem(formats._LIBRARIES, "nifti", ("no_such_library", "nifti"))

    assert main(["analyze", str(nifti), "--url", "127.0.0.1:1", "--format", "nifti"]) == 1

    assert "no_such_library is not installed" in capsys.readouterr().err


def test_what_the_usual_formats_need_is_asked_for_before_anything_is_sent(analyze, tmp_path, monkeypatch):
    monkeypatch.setitem(formats._LIBRARIES, "nifti", ("no_such_library", "nifti"))
    np.save(tmp_path / "head.npy", slices(*LEVELS))

    code, _, (record,) = analyze(tmp_path / "head.npy", "--timeout-s", "0.000001")

    assert code == 1
    assert "no_such_library is not installed" in record["error"]
    assert "pip install 'gliogate[nifti]'" in record["error"]
