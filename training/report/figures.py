"""The figures of an evaluation: counts for each patient, and what is computed from them.

`summarize` gives what `summary.json` holds. A figure that is not defined is None there, and does not enter a mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import metrics
from training.answers import Answers
from training.data import Dataset
from training.metrics import Confusion, OutlineDistances


@dataclass(frozen=True)
class _Patient:
    """One patient's slices.

    Attributes:
        name: of the patient.
        probability: of tumor, shape (N,).
        opened: at which slices the gate opened, shape (N,).
        gate: those slices held against the ones that show tumor, counts of shape (N,).
        pixels: predicted pixels held against true ones, counts of shape (N,).
        outlines: the distances in each slice, None where a mask is empty, N of them.
    """

    name: str
    probability: NDArray[np.float32]
    opened: NDArray[np.bool_]
    gate: Confusion
    pixels: Confusion
    outlines: list[OutlineDistances | None]

    def case(self) -> dict[str, Any]:
        gate = self.gate.total()
        shows_tumor = self.gate.true_positive + self.gate.false_negative > 0
        return {
            "patient": self.name,
            "slices": len(self.opened),
            "tumor_slices": int(gate.true_positive + gate.false_negative),
            "tumor_slices_missed": int(gate.false_negative),
            "clear_slices_opened": int(gate.false_positive),
            "probabilities": {"tumor": self._told(shows_tumor), "clear": self._told(~shows_tumor)},
            "through_gate": self._volume(self.pixels.gated(self.opened), self.opened),
            "without_gate": self._volume(self.pixels, np.ones_like(self.opened)),
        }

    def _told(self, rows: NDArray[np.bool_]) -> list[float]:
        """Probabilities to six digits: what counts is their order."""
        return [float(f"{probability:.6g}") for probability in self.probability[rows]]

    def _volume(self, pixels: Confusion, opened: NDArray[np.bool_]) -> dict[str, Any]:
        volume = pixels.total()
        outlines = [found for found, passed in zip(self.outlines, opened, strict=True) if found and passed]
        return {
            "true_positive_px": int(volume.true_positive),
            "false_positive_px": int(volume.false_positive),
            "false_negative_px": int(volume.false_negative),
            "dice": float(volume.dice),
            "jaccard": float(volume.jaccard),
            "hd95_px": metrics.hd95(outlines),
            "hd95_slices": len(outlines),
        }


def summarize(dataset: Dataset, answers: Answers, *, threshold: float, resamples: int = 1000) -> dict[str, Any]:
    """Holds answers against the truth.

    Args:
        dataset: N slices of patients that the networks were not trained on.
        answers: what was said of them, in their order.
        threshold: the probability at which the gate opened.
        resamples: how many draws of patients an interval is made from.

    Returns:
        The content of `summary.json`, JSON-safe. `detector` counts slices; `through_gate` and `without_gate` measure
        masks, with a slice at which the gate stayed shut as an empty mask or as if it had opened; `cases` has the
        counts of each patient, and the probabilities of his slices with tumor and without. Figures that end in
        `_interval` are 95% bootstrap intervals over patients.
    """
    patients = [_count(name, dataset.at(rows), answers, rows) for name, rows in dataset.volumes()]
    cases = [patient.case() for patient in patients]
    summary = {
        "patients": [patient.name for patient in patients],
        "slices": len(dataset),
        "tumor_slices": int(dataset.tumor.sum()),
        "threshold": threshold,
        "resamples": resamples,
        "detector": _detector(dataset, answers, resamples),
        "through_gate": _masks(patients, cases, "through_gate", resamples),
        "without_gate": _masks(patients, cases, "without_gate", resamples),
        "cases": cases,
    }
    plain: dict[str, Any] = _plain(summary)
    return plain


def _count(name: str, truth: Dataset, answers: Answers, rows: NDArray[np.intp]) -> _Patient:
    predicted, opened = answers.masks[rows], answers.opened[rows]
    outlines = [OutlineDistances.between(*masks) for masks in zip(predicted, truth.masks, strict=True)]
    pixels = Confusion.of(predicted, truth.masks, axis=(1, 2))
    return _Patient(name, answers.probability[rows], opened, Confusion.of(opened, truth.tumor), pixels, outlines)


def _detector(dataset: Dataset, answers: Answers, resamples: int) -> dict[str, Any]:
    tumor, probability = dataset.tumor, answers.probability
    slices = Confusion.of(answers.opened, tumor)
    total = slices.total()
    figures = _with_intervals(
        {
            "auc": lambda rows: metrics.auc(probability[rows], tumor[rows]),
            "average_precision": lambda rows: metrics.average_precision(probability[rows], tumor[rows]),
            "sensitivity": lambda rows: float(slices.at(rows).total().sensitivity),
            "specificity": lambda rows: float(slices.at(rows).total().specificity),
            "precision": lambda rows: float(slices.at(rows).total().precision),
            "accuracy": lambda rows: float(slices.at(rows).total().accuracy),
            "f1": lambda rows: float(slices.at(rows).total().dice),
        },
        [rows for _, rows in dataset.volumes()],
        resamples,
    )
    return figures | {
        "confusion": asdict(total),
        "calibration_error": metrics.calibration_error(probability, tumor),
        "calibration_curve": [asdict(group) for group in metrics.calibration_curve(probability, tumor)],
    }


def _masks(patients: Sequence[_Patient], cases: Sequence[dict[str, Any]], gate: str, resamples: int) -> dict[str, Any]:
    """Figures per patient volume, per slice, and per slice that shows tumor."""
    volumes = {figure: np.array([case[gate][figure] for case in cases]) for figure in ("dice", "jaccard", "hd95_px")}
    pixels = [p.pixels.gated(p.opened) if gate == "through_gate" else p.pixels for p in patients]
    slices = Confusion(*(np.concatenate(counts) for counts in zip(*(p.counts for p in pixels), strict=True)))
    tumor = slices.true_positive + slices.false_negative > 0
    agreed_empty = np.isnan(slices.dice)
    ends = np.cumsum([len(patient.opened) for patient in patients])
    each_patient = [np.array([index]) for index in range(len(patients))]
    slices_of_each = np.split(np.arange(len(tumor)), ends[:-1])

    def mean_of(values: NDArray[np.float64]) -> Callable[[NDArray[np.intp]], float]:
        return lambda rows: _mean(values[rows])

    tumor_dice, tumor_jaccard, tumor_accuracy = (
        np.where(tumor, values, np.nan) for values in (slices.dice, slices.jaccard, slices.accuracy)
    )
    return {
        **_with_intervals(
            {"volume_dice_mean": mean_of(volumes["dice"]), "volume_jaccard_mean": mean_of(volumes["jaccard"])},
            each_patient,
            resamples,
        ),
        "volume_dice_median": _median(volumes["dice"]),
        "volume_jaccard_median": _median(volumes["jaccard"]),
        "volume_hd95_median_px": _median(volumes["hd95_px"]),
        "volumes_without_dice": int(np.isnan(volumes["dice"]).sum()),
        "volumes_without_hd95": int(np.isnan(volumes["hd95_px"]).sum()),
        **_with_intervals(
            {
                "tumor_slice_dice_mean": mean_of(tumor_dice),
                "tumor_slice_jaccard_mean": mean_of(tumor_jaccard),
                "tumor_slice_pixel_accuracy_mean": mean_of(tumor_accuracy),
                "slice_dice_mean": mean_of(slices.dice),
                "slice_jaccard_mean": mean_of(slices.jaccard),
                "slice_pixel_accuracy_mean": mean_of(slices.accuracy),
            },
            slices_of_each,
            resamples,
        ),
        "slice_dice_mean_with_empty_as_1": _mean(np.where(agreed_empty, 1.0, slices.dice)),
        "slice_jaccard_mean_with_empty_as_1": _mean(np.where(agreed_empty, 1.0, slices.jaccard)),
        "slices_empty_in_both": int(agreed_empty.sum()),
    }


def _with_intervals(
    statistics: dict[str, Callable[[NDArray[np.intp]], float]], groups: Sequence[NDArray[np.intp]], resamples: int
) -> dict[str, Any]:
    everything = np.concatenate(groups)
    figures: dict[str, Any] = {}
    for name, statistic in statistics.items():
        figures[name] = statistic(everything)
        figures[f"{name}_interval"] = metrics.patient_interval(statistic, groups, resamples=resamples)
    return figures


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _median(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(np.median(defined)) if len(defined) else float("nan")


def _plain(value: Any) -> Any:
    """What JSON knows: lists, whole numbers and finite ones, None for what is not defined."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
