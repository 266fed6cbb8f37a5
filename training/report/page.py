"""The report of an evaluation: `summary.json` for programs, `report.html` for people."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.frame import render, write_page
from reports.plots import range_bar
from training.answers import Answers
from training.data import Dataset
from training.files import naming, write_json
from training.report import cases, curves


@dataclass(frozen=True)
class Figure:
    """A line of a table.

    Attributes:
        key: of the summary.
        name: what the field calls it.
        how: how it counts, in a line.
    """

    key: str
    name: str
    how: str


DETECTOR = (
    Figure("sensitivity", "Sensitivity (recall)", "of the slices with tumor, the share at which the gate opened"),
    Figure("specificity", "Specificity", "of the slices without tumor, the share at which it stayed shut"),
    Figure("precision", "Precision", "of the slices at which it opened, the share with tumor"),
    Figure("accuracy", "Accuracy", "of all slices, the share that was told rightly"),
    Figure("f1", "F1", "harmonic mean of precision and sensitivity"),
    Figure("auc", "AUC", "how often a slice with tumor gets a higher probability than one without"),
    Figure("average_precision", "Average precision", "precision averaged over the steps of sensitivity"),
    Figure(
        "calibration_error",
        "Calibration error (ECE)",
        "mean gap between what is said and what is true, over the bins of the calibration curve",
    ),
)

MASKS = {
    "Each patient, the whole volume": (
        Figure(
            "volume_dice_mean",
            "Dice, mean",
            "twice the overlap over the sum of both masks, all slices of a patient as one; every patient counts once",
        ),
        Figure("volume_dice_median", "Dice, median", "half of the patients are better"),
        Figure("volume_jaccard_mean", "Jaccard, mean", "the overlap over the union"),
        Figure("volume_jaccard_median", "Jaccard, median", "half of the patients are better"),
        Figure(
            "volume_hd95_median_px",
            "HD95, median, in pixels",
            "95% of a patient's outline lies closer than this to the other one, the worse direction "
            "counting; measured within the slices that both masks reach, so read it beside Dice",
        ),
    ),
    "Each slice with tumor": (
        Figure("tumor_slice_dice_mean", "Dice, mean", "0 where nothing was outlined"),
        Figure("tumor_slice_jaccard_mean", "Jaccard, mean", "0 where nothing was outlined"),
        Figure(
            "tumor_slice_pixel_accuracy_mean",
            "Pixel accuracy, mean",
            "share of the pixels told rightly, background and all",
        ),
    ),
    "Every slice": (
        Figure("slice_dice_mean", "Dice, mean", "0 where one mask is empty; slices empty in both are left out"),
        Figure("slice_jaccard_mean", "Jaccard, mean", "the same"),
        Figure(
            "slice_dice_mean_with_empty_as_1",
            "Dice, mean, empty as 1",
            "slices empty in both count as 1, as they do in much that is published; high wherever most "
            "slices are clear",
        ),
        Figure("slice_jaccard_mean_with_empty_as_1", "Jaccard, mean, empty as 1", "the same"),
        Figure("slice_pixel_accuracy_mean", "Pixel accuracy, mean", "mostly background: high even for empty masks"),
        Figure("slices_empty_in_both", "Slices empty in both", "neither mask has a pixel: Dice is not defined"),
    ),
}


HEADS: dict[str, tuple[Figure, ...]] = {
    "detector": (
        Figure("auc", "AUC", "area under the ROC curve, over slices"),
        Figure("sensitivity", "Sensitivity", "share of the slices with tumor at which the gate opens"),
        Figure("specificity", "Specificity", "share of the slices without at which it stays shut"),
    ),
    "through_gate": (
        Figure("volume_dice_mean", "Dice, mean", "of a patient's volume; a slice that the gate missed is empty"),
        Figure("volume_dice_median", "Dice, median", "the same"),
    ),
    "reliability": (
        Figure("spearman_of_certainty_and_dice", "Certainty and Dice", "Spearman's rank correlation over heads"),
        Figure("flagged", "Heads to look at", "their certainty is below the limit"),
        Figure("dice_mean_of_flagged", "Dice of these, mean", "of the volume"),
        Figure("dice_mean_of_others", "Dice of the others, mean", "the same"),
        Figure("said_over_true_volume_median", "Volume said / true, median", "1 is without bias"),
        Figure("said_over_true_volume_mean", "Volume said / true, mean", "the same"),
        Figure(
            "share_of_true_volumes_in_their_interval",
            "True volumes inside their interval",
            "0.9 was asked for; bounds are from other patients in a cross-validation",
        ),
        Figure("pixel_calibration_error", "Calibration error, pixels", "of all pixels of slices that were segmented"),
        Figure(
            "pixel_calibration_error_between_0.02_and_0.98",
            "Calibration error, pixels in doubt",
            "of those said to be tumor with 0.02 to 0.98",
        ),
    ),
}


def write_report(folder: Path, title: str, dataset: Dataset, answers: Answers, summary: dict[str, Any]) -> Path | None:
    """Writes `summary.json`, then `report.html`.

    Args:
        folder: where to; made if it is not there.
        title: of the page: what was measured, and on whom.
        dataset: the slices; some of them are shown.
        answers: what was said of them.
        summary: what `summarize` made of both; more keys may be in it.

    Returns:
        The page; None where it could not be drawn, which is logged.

    Raises:
        TrainingError: the folder cannot be written to.
    """
    page = folder / "report.html"
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "summary.json", summary)
    with naming(page):
        return write_page(page, lambda: _render(title, dataset, answers, summary))


def _render(title: str, dataset: Dataset, answers: Answers, summary: dict[str, Any]) -> str:
    detector, gated = summary["detector"], summary["through_gate"]
    ranked = cases.rank(summary["cases"])
    return render(
        Path(__file__).with_name("page.html"),
        title=title,
        summary=summary,
        tiles={
            key: range_bar(section[key], section.get(f"{key}_interval", (None, None)), label=key)
            for section, keys in ((detector, ("sensitivity", "specificity", "auc")), (gated, ("volume_dice_mean",)))
            for key in keys
        },
        roc=curves.roc_plot(answers.probability, dataset.tumor, detector),
        precision_recall=curves.precision_recall_plot(answers.probability, dataset.tumor, detector),
        calibration=curves.calibration_plot(detector),
        patients=curves.patients_plot(ranked, gated["volume_dice_mean"]) if ranked else None,
        heads=summary.get("in_heads"),
        head_figures=HEADS,
        detector_figures=DETECTOR,
        mask_figures=MASKS,
        ranked=ranked,
        unranked=[case for case in summary["cases"] if case["through_gate"]["dice"] is None],
        shown={
            name: [cases.show(case, dataset, answers) for case in chosen]
            for name, chosen in cases.choose(ranked).items()
        },
    )
