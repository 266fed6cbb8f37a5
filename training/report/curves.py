"""The plots of the report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from reports.plots import Axis, Plot


def roc_plot(probability: NDArray[np.floating], tumor: NDArray[np.bool_], detector: dict[str, Any]) -> Markup | None:
    """Sensitivity against false alarms, with the operating point; None where all slices are of one class."""
    if detector["auc"] is None:
        return None
    plot = Plot(
        Axis.share("1 \N{MINUS SIGN} specificity"),
        Axis.share("sensitivity"),
        label=f"ROC curve, area {detector['auc']:.3f}",
    )
    plot.guide((0, 0), (1, 1))
    false_alarms, found, _ = roc_curve(tumor, probability)
    plot.line(false_alarms, found)
    plot.mark(1 - detector["specificity"], detector["sensitivity"], name="operating point")
    return plot.svg()


def precision_recall_plot(
    probability: NDArray[np.floating], tumor: NDArray[np.bool_], detector: dict[str, Any]
) -> Markup | None:
    """Precision against sensitivity, with the operating point; None where all slices are of one class."""
    if detector["average_precision"] is None:
        return None
    plot = Plot(
        Axis.share("sensitivity"),
        Axis.share("precision"),
        label=f"precision-recall curve, average precision {detector['average_precision']:.3f}",
    )
    prevalence = float(tumor.mean())
    plot.guide((0, prevalence), (1, prevalence))
    precision, recall, _ = precision_recall_curve(tumor, probability, drop_intermediate=True)
    plot.line(recall, precision)
    if detector["precision"] is not None:
        plot.mark(detector["sensitivity"], detector["precision"], name="operating point")
    return plot.svg()


def calibration_plot(detector: dict[str, Any]) -> Markup:
    """The share of tumor slices against the probability that was said, bin by bin."""
    plot = Plot(
        Axis.share("probability said"),
        Axis.share("share with tumor"),
        label=f"calibration curve, error {detector['calibration_error']:.3f}",
    )
    plot.guide((0, 0), (1, 1))
    curve = detector["calibration_curve"]
    plot.line([group["probability"] for group in curve], [group["tumor_share"] for group in curve])
    for group in curve:
        note = f"{group['slices']} slices: said {group['probability']:.3f}, true {group['tumor_share']:.3f}"
        plot.dot(group["probability"], group["tumor_share"], note=note)
    return plot.svg()


def patients_plot(ranked: Sequence[dict[str, Any]], mean: float) -> Markup:
    """Dice of each patient through the gate and without it.

    Args:
        ranked: cases of the summary that have a Dice, best first; one or more.
        mean: of their Dice through the gate.
    """
    count = len(ranked)
    ticks = sorted({1, *range(10, count, 10), count} - {tick for tick in range(10, count, 10) if count - tick < 5})
    plot = Plot(
        Axis("patients, best first", 0.25, count + 0.75, tuple(float(tick) for tick in ticks)),
        Axis.share("volume Dice"),
        label="Dice of each patient, through the gate and without it",
        size=(960, 320),
    )
    plot.guide((0.25, mean), (count + 0.75, mean))
    radius = 3.5 if count > 40 else 5
    for rank, case in enumerate(ranked, start=1):
        gated, ungated = case["through_gate"]["dice"], case["without_gate"]["dice"]
        note = f"{case['patient']}: {gated:.3f} through the gate, {ungated:.3f} without"
        plot.stem(rank, *sorted((gated, ungated)))
        plot.dot(rank, ungated, ink="second", radius=radius + 0.75, note=note)
        plot.dot(rank, gated, radius=radius, note=note)
    return plot.svg()
