"""What `explore` finds in a dataset, and the page and the JSON that it makes of it."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.data import read_kaggle
from training.errors import DataError, TrainingError
from training.explore import explore

FIRST, SECOND = "TCGA_CS_0001_20000101", "TCGA_DU_0002_20000101"


@pytest.fixture
def copy(kaggle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kaggle, tmp_path / "copy"))


def slice_file(case: str, number: int, *, mask: bool = False) -> str:
    return f"{case}/{case}_{number}{'_mask' if mask else ''}.tif"


def write(file: Path, pixels: NDArray[np.uint8]) -> None:
    assert cv2.imwrite(str(file), pixels)


def test_counts_are_those_of_what_is_read(kaggle: Path, tmp_path: Path) -> None:
    found, dataset = explore(kaggle, tmp_path), read_kaggle(kaggle)
    assert (found["patients"], found["slices"], found["tumor_slices"]) == (5, 60, dataset.tumor.sum()) == (5, 60, 30)
    assert [case["slices"] for case in found["cases"]] == [12] * 5
    assert [size for case in found["cases"] for size in case["mask_sizes_px"]] == [
        int(mask.sum()) for mask in dataset.masks if mask.any()
    ]
    assert found["troubles"] == found["duplicates"] == found["gaps"] == found["blank_slices"] == []
    table = found["patient_table"]
    assert (table["rows"], table["wrong_rows"], table["absent_cases"]) == (60, 48, [])
    # Each of them, and not some rows of the first.
    assert [case["case"].split("_")[2] for case in table["wrong_cases"]] == ["0002", "0003", "0004", "0005"]
    assert all(case["patient_ids"] == [FIRST] for case in table["wrong_cases"])
    assert found["unread_pictures"] == []


def test_the_figures_outlive_a_page_that_cannot_be_drawn(
    kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("training.explore.render_page", lambda *_: 1 / 0)
    found = explore(kaggle, tmp_path)
    assert json.loads((tmp_path / "explore.json").read_text()) == found
    assert f"{tmp_path / 'explore.html'}: cannot be drawn" in caplog.text
    assert not (tmp_path / "explore.html").exists()


def test_intensity_is_of_every_pixel(kaggle: Path, tmp_path: Path) -> None:
    dataset = read_kaggle(kaggle)
    for channel, figures in enumerate(explore(kaggle, tmp_path)["intensity"]):
        values = dataset.images[..., channel]
        assert figures["mean"] == pytest.approx(values.mean(), abs=0.01)
        assert figures["deviation"] == pytest.approx(values.std(), abs=0.01)
        assert figures["median"] == np.median(values)
        inside = np.bincount(values[dataset.masks == 1], minlength=256)
        assert figures["counts_inside_masks"] == inside.tolist()
        assert sum(figures["counts_outside_masks"]) == values.size - inside.sum()


def test_files_are_the_survey_and_a_page_that_needs_nothing_else(
    kaggle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = explore(kaggle, tmp_path / "new" / "folder")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["explore.html", "explore.json"]
    assert json.loads((tmp_path / "new" / "folder" / "explore.json").read_text()) == found
    page = (tmp_path / "new" / "folder" / "explore.html").read_text()
    assert page.lower().count("research use only") == 1
    assert page.count("data:image/") == len(found["samples"]) == 5
    assert not re.search(r"<script|<link|(src|href)=.(?!data:)", page)
    assert "patient_id disagrees with the folder in 48 of 60 rows" in page
    assert capsys.readouterr() == ("", "")


def test_trouble_is_listed_and_stops_nothing(copy: Path, tmp_path: Path) -> None:
    (copy / slice_file(FIRST, 1, mask=True)).unlink()
    (copy / slice_file(FIRST, 2)).unlink()
    (copy / slice_file(FIRST, 3)).write_bytes(b"no picture")
    (copy / FIRST / "<b>&.tif").write_bytes(b"")
    write(copy / slice_file(SECOND, 4), np.zeros((256, 256), np.uint8))
    write(copy / slice_file(SECOND, 5, mask=True), np.ones((256, 256), np.uint8))
    found = explore(copy, tmp_path / "out")
    assert {(trouble["kind"], trouble["file"]) for trouble in found["troubles"]} == {
        ("missing_mask", slice_file(FIRST, 1, mask=True)),
        ("missing_image", slice_file(FIRST, 2, mask=True)),
        ("unreadable", slice_file(FIRST, 3)),
        ("wrong_name", f"{FIRST}/<b>&.tif"),
        ("wrong_shape", slice_file(SECOND, 4)),
        ("wrong_values", slice_file(SECOND, 5, mask=True)),
    }
    assert found["slices"] == 55
    assert found["gaps"] == [], "a file in trouble is no gap"
    page = (tmp_path / "out" / "explore.html").read_text()
    assert "&lt;b&gt;&amp;.tif: name not known" in page
    assert "<b>&" not in page
    with pytest.raises(DataError, match="5 more in trouble"):
        read_kaggle(copy)


def test_oddities_are_found(copy: Path, tmp_path: Path) -> None:
    shutil.copy(copy / slice_file(FIRST, 1), copy / slice_file(SECOND, 1))
    shutil.copy(copy / slice_file(FIRST, 2), copy / slice_file(FIRST, 3))
    write(copy / slice_file(FIRST, 4), np.full((256, 256, 3), 7, np.uint8))
    soft = cv2.imread(str(copy / slice_file(FIRST, 5, mask=True)), cv2.IMREAD_GRAYSCALE)
    soft[0, :3] = (254, 128, 3)
    write(copy / slice_file(FIRST, 5, mask=True), soft)
    for mask in (False, True):
        for number in (7, 8, 10):
            (copy / slice_file(FIRST, number, mask=mask)).unlink()

    found = explore(copy, tmp_path / "out")
    assert [group["files"] for group in found["duplicates"]] == [
        [slice_file(FIRST, 1), slice_file(SECOND, 1)],
        [slice_file(FIRST, 2), slice_file(FIRST, 3)],
    ]
    assert [group["patients"] for group in found["duplicates"]] == [["TCGA_CS_0001", "TCGA_DU_0002"], ["TCGA_CS_0001"]]
    assert found["blank_slices"] == [slice_file(FIRST, 4)]
    assert found["masks_of_other_values"] == [{"file": slice_file(FIRST, 5, mask=True), "pixels": 3}]
    assert found["gaps"] == [
        {"case": FIRST, "first_missing": 7, "last_missing": 8},
        {"case": FIRST, "first_missing": 10, "last_missing": 10},
    ]


def test_what_is_passed_by_is_found(copy: Path, tmp_path: Path) -> None:
    for file in ("loose.tif", f"{FIRST}/{FIRST}_5.png", f"{FIRST}/deeper/{FIRST}_1.tif", f"{FIRST}/._{FIRST}_1.png"):
        (copy / file).parent.mkdir(exist_ok=True)
        (copy / file).write_bytes(b"")
    with (copy / "data_mask.csv").open("a") as table:
        table.write(f"TCGA_XX_0009_20000101,{'TCGA_XX_0009_20000101/' * 2}1.tif,,0\n")
    found = explore(copy, tmp_path / "out")
    assert found["troubles"] == [], "training takes the dataset all the same"
    assert found["unread_pictures"] == [
        f"{FIRST}/{FIRST}_5.png", f"{FIRST}/deeper/{FIRST}_1.tif", "loose.tif"
    ]  # fmt: skip
    assert found["patient_table"]["absent_cases"] == [{"case": "TCGA_XX_0009_20000101", "rows": 1}]
    page = (tmp_path / "out" / "explore.html").read_text()
    assert "loose.tif" in page
    assert "TCGA_XX_0009_20000101: 1 rows" in page


def test_channels_that_are_flair_or_have_a_grey_background_are_found(copy: Path, tmp_path: Path) -> None:
    for number in range(1, 13):
        file = copy / slice_file(FIRST, number)
        blue_green_red = cv2.imread(str(file))
        blue_green_red[..., 0] = cv2.add(
            blue_green_red[..., 1], (np.indices((256, 256)).sum(axis=0) % 2).astype(np.uint8)
        )
        blue_green_red[..., 2] = np.maximum(blue_green_red[..., 2], 60)
        write(file, blue_green_red)
    found = explore(copy, tmp_path / "out")
    assert [(one["patient"], one["channel"]) for one in found["copies_of_flair"]] == [("TCGA_CS_0001", "post-contrast")]
    assert found["copies_of_flair"][0]["mean_difference"] == pytest.approx(0.5, abs=0.02)
    assert found["grey_backgrounds"] == [{"patient": "TCGA_CS_0001", "channel": "pre-contrast", "level": 60.0}]


def test_dataset_of_trouble_only_has_a_page(kaggle: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / FIRST).mkdir(parents=True)
    shutil.copy(kaggle / slice_file(FIRST, 1), tmp_path / "data" / FIRST)
    found = explore(tmp_path / "data", tmp_path)
    assert (found["slices"], found["samples"], found["mask_size_px"]) == (0, [], None)
    assert f"the mask of {FIRST}_1.tif is missing" in (tmp_path / "explore.html").read_text()


def test_folder_that_is_no_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no <case>/<case>_<n>\.tif here"):
        explore(tmp_path, tmp_path / "out")


def test_output_that_cannot_be_written_is_named(kaggle: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(TrainingError, match=r"out: cannot be written: File exists"):
        explore(kaggle, tmp_path / "out")
