"""The figures of an evaluation and its page, from phantoms and answers whose faults are known."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from reports.frame import NONE
from training.answers import Answers
from training.data import Dataset, phantoms
from training.errors import TrainingError
from training.report import summarize, write_report
from training.report.cases import choose, show

THRESHOLD = 0.5
PATIENTS = ("anna", "ben", "cleo", "dora")
SLICES = 6


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Four patients of six slices, in each three with tumor."""
    made = phantoms(60, prevalence=0.5, seed=30)
    order = np.concatenate(
        [np.flatnonzero(made.tumor)[:12].reshape(4, 3), np.flatnonzero(~made.tumor)[:12].reshape(4, 3)], 1
    )
    chosen = made.at(order.ravel())
    return dataclasses.replace(chosen, patients=np.repeat(PATIENTS, SLICES))


@pytest.fixture(scope="module")
def answers(dataset: Dataset) -> Answers:
    """Anna is outlined perfectly, the others too wide; a slice of Ben is missed, a clear one of Cleo's opens."""
    probability = np.where(dataset.tumor, 0.9, 0.1).astype(np.float32)
    masks = np.stack([cv2.dilate(mask, np.ones((5, 5), np.uint8)) for mask in dataset.masks])
    masks[:SLICES] = dataset.masks[:SLICES]
    ben, cleo = SLICES, 3 * SLICES - 1
    probability[ben], probability[cleo] = 0.2, 0.8
    masks[cleo, 100:110, 100:110] = 1
    return Answers.gated(probability, masks, threshold=THRESHOLD)


@pytest.fixture(scope="module")
def summary(dataset: Dataset, answers: Answers) -> dict:
    return summarize(dataset, answers, threshold=THRESHOLD, resamples=50)


@pytest.fixture(scope="module")
def page(dataset: Dataset, answers: Answers, summary: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("run"), "four phantoms", dataset, answers, summary)


def only(dataset: Dataset, answers: Answers, rows: np.ndarray) -> tuple[Dataset, Answers]:
    return dataset.at(rows), Answers(answers.probability[rows], answers.opened[rows], answers.masks[rows])


def test_the_detector_is_counted_by_slices(summary: dict) -> None:
    detector = summary["detector"]
    assert detector["confusion"] == {
        "true_positive": 11, "false_positive": 1, "false_negative": 1, "true_negative": 11,
    }  # fmt: skip
    assert detector["sensitivity"] == detector["specificity"] == detector["precision"] == pytest.approx(11 / 12)
    low, high = detector["auc_interval"]
    assert low < detector["auc"] < high


def test_volume_dice_is_of_the_masks_that_come_through_the_gate(
    dataset: Dataset, answers: Answers, summary: dict
) -> None:
    for case in summary["cases"]:
        rows = dataset.patients == case["patient"]
        for gate, masks in (("through_gate", answers.gated_masks[rows]), ("without_gate", answers.masks[rows])):
            truth = dataset.masks[rows]
            assert case[gate]["dice"] == pytest.approx(2 * (masks & truth).sum() / (masks.sum() + truth.sum()))
    dice = [case["through_gate"]["dice"] for case in summary["cases"]]
    assert summary["through_gate"]["volume_dice_mean"] == pytest.approx(np.mean(dice))
    assert summary["through_gate"]["volume_dice_median"] == pytest.approx(np.median(dice))


def test_a_missed_slice_and_a_false_alarm_cost_what_they_should(summary: dict) -> None:
    anna, ben, cleo, dora = summary["cases"]
    assert anna["through_gate"]["dice"] == 1
    assert anna["through_gate"]["hd95_px"] == 0
    assert (ben["tumor_slices_missed"], cleo["clear_slices_opened"]) == (1, 1)
    assert ben["through_gate"]["dice"] < ben["without_gate"]["dice"]
    assert ben["through_gate"]["hd95_slices"] == 2
    assert dora["through_gate"] == dora["without_gate"]
    assert dora["through_gate"]["hd95_px"] >= 2


def test_empty_masks_are_counted_and_not_hidden_in_a_mean(summary: dict) -> None:
    gated = summary["through_gate"]
    assert gated["slices_empty_in_both"] == 11
    assert gated["slice_dice_mean_with_empty_as_1"] == pytest.approx((13 * gated["slice_dice_mean"] + 11) / 24)
    assert gated["slice_dice_mean"] == pytest.approx(12 / 13 * gated["tumor_slice_dice_mean"])


def test_a_set_without_tumor_has_no_auc_and_a_page_all_the_same(
    dataset: Dataset, answers: Answers, tmp_path: Path
) -> None:
    clear, said = only(dataset, answers, np.flatnonzero(~dataset.tumor))
    summary = summarize(clear, said, threshold=THRESHOLD, resamples=50)
    detector, gated = summary["detector"], summary["through_gate"]
    assert detector["auc"] is detector["sensitivity"] is detector["average_precision"] is None
    assert detector["specificity"] == pytest.approx(11 / 12)
    assert gated["volumes_without_dice"] == 3
    assert gated["volume_dice_mean"] == 0
    assert gated["tumor_slice_dice_mean"] is None
    page = write_report(tmp_path, "clear", clear, said, summary).read_text()
    assert "curves need slices with tumor and slices without; here are 0 and 12" in page


def test_nothing_to_find_and_nothing_found(dataset: Dataset, answers: Answers, tmp_path: Path) -> None:
    clear, said = only(dataset, answers, np.flatnonzero(~dataset.tumor)[:6])
    summary = summarize(clear, said, threshold=THRESHOLD, resamples=50)
    assert summary["through_gate"]["volume_dice_mean"] is None
    assert summary["detector"]["precision"] is None
    assert "Patient by patient" in write_report(tmp_path, "clear", clear, said, summary).read_text()


def test_only_tumor_slices_have_no_specificity(dataset: Dataset, answers: Answers, tmp_path: Path) -> None:
    ill, said = only(dataset, answers, np.flatnonzero(dataset.tumor))
    summary = summarize(ill, said, threshold=THRESHOLD, resamples=50)
    assert summary["detector"]["specificity"] is summary["detector"]["auc"] is None
    assert write_report(tmp_path, "ill", ill, said, summary).exists()


def test_one_patient_has_figures_and_no_intervals(dataset: Dataset, answers: Answers, tmp_path: Path) -> None:
    ben, said = only(dataset, answers, np.arange(SLICES, 2 * SLICES))
    summary = summarize(ben, said, threshold=THRESHOLD, resamples=50)
    assert summary["patients"] == ["ben"]
    assert summary["detector"]["sensitivity"] == pytest.approx(2 / 3)
    assert summary["detector"]["sensitivity_interval"] == [None, None]
    assert f"95% interval {NONE}" in write_report(tmp_path, "ben", ben, said, summary).read_text()


def test_summary_is_written_as_json_that_every_reader_knows(page: Path, summary: dict) -> None:
    text = page.with_name("summary.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == summary


def test_page_needs_neither_network_nor_scripts(page: Path) -> None:
    text = page.read_text()
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert all(
        target.startswith("data:image/") for target in re.findall(r"""(?:src|href)\s*=\s*["']?([^"'>]*)""", text)
    )


def test_page_says_once_what_it_is_not_for(page: Path) -> None:
    text = page.read_text()
    assert text.lower().count("research use only") == 1
    assert text.count("do not publish") == 1


def test_page_has_the_figures_and_the_patients(page: Path, summary: dict) -> None:
    text = page.read_text()
    assert f"{summary['through_gate']['volume_dice_mean']:.3f}" in text
    assert f"{summary['detector']['auc']:.3f}" in text
    for patient in PATIENTS:
        assert f"<th>{patient}</th>" in text
    assert text.count("Scan, <b>true</b> in red") == text.count("Scan, <b>predicted</b> in green") == 4


def test_tags_of_the_page_are_closed(page: Path) -> None:
    class Reader(HTMLParser):
        open_tags: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
            if tag not in ("meta", "img"):
                self.open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open_tags.pop() == tag, self.getpos()

    reader = Reader()
    reader.feed(page.read_text())
    assert reader.open_tags == []


def test_names_are_text_and_never_markup(dataset: Dataset, answers: Answers, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    renamed = dataclasses.replace(dataset, patients=np.where(dataset.patients == "ben", evil, dataset.patients))
    summary = summarize(renamed, answers, threshold=THRESHOLD, resamples=50)
    text = write_report(tmp_path, "<b>title</b>", renamed, answers, summary).read_text()
    assert "<script" not in text
    assert "<b>title" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_report_that_cannot_be_written_is_named(
    dataset: Dataset, answers: Answers, summary: dict, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(TrainingError, match=r"taken: cannot be written: File exists"):
        write_report(tmp_path / "taken", "", dataset, answers, summary)


def test_a_page_that_cannot_be_drawn_leaves_the_figures_and_no_page_of_others(
    dataset: Dataset, answers: Answers, summary: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = write_report(tmp_path, "first", dataset, answers, summary)
    broken = {key: summary[key] for key in summary if key != "detector"}
    assert write_report(tmp_path, "second", dataset, answers, broken) is None
    assert {path.name for path in tmp_path.iterdir()} == {"summary.json"}
    assert json.loads((tmp_path / "summary.json").read_text()) == broken
    assert f"{page}: cannot be drawn, the figures beside it are whole: KeyError: 'detector'" in caplog.text


def test_the_slice_of_the_largest_true_mask_is_shown_and_whether_it_was_missed(
    dataset: Dataset, answers: Answers, tmp_path: Path
) -> None:
    """The clear slice of Dora's opens, and all of its air is outlined."""
    rows = np.flatnonzero(dataset.patients == "dora")
    largest = rows[int(np.argmax(dataset.masks[rows].sum(axis=(1, 2))))]
    probability, masks = answers.probability.copy(), answers.masks.copy()
    probability[largest], probability[rows[-1]], masks[rows[-1]] = 0.2, 0.9, 1
    said = Answers.gated(probability, masks, threshold=THRESHOLD)
    summary = summarize(dataset, said, threshold=THRESHOLD, resamples=50)
    dora = show(next(case for case in summary["cases"] if case["patient"] == "dora"), dataset, said)
    assert dora.slice_name == dataset.names[largest]
    page = write_report(tmp_path, "air", dataset, said, summary).read_text()
    assert f"{dora.slice_name}: probability 0.200, missed: the gate stayed shut" in page
    assert "1 of 3 slices with tumor missed" in page


@pytest.mark.parametrize("count", range(1, 25))
def test_best_median_and_worst_are_different_patients(count: int) -> None:
    ranked = [{"rank": rank} for rank in range(count)]
    chosen = {kind: [case["rank"] for case in cases] for kind, cases in choose(ranked).items()}
    shown = [rank for ranks in chosen.values() for rank in ranks]
    assert len(shown) == len(set(shown)) == min(count, 9)
    assert chosen["Best"][0] == 0
    if count > 1:
        assert chosen["Worst"][-1] == count - 1
    if count >= 9:
        assert np.mean(chosen["Median"]) == pytest.approx((count - 1) / 2, abs=0.5)
