"""Measures networks the way they are used: served by Triton, through the gate, asked by the client."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gliogate import Client
from gliogate.contract import GateMode
from gliogate.embedded import EmbeddedServer
from training import metrics
from training.data import Dataset, phantoms, read_kaggle
from training.files import replacing
from training.run import Run

logger = logging.getLogger(__name__)

PHANTOMS = 200
PHANTOM_SEED = 7_000
"""A series that no training takes: those start at small seeds."""


@dataclass(frozen=True)
class Answers:
    """What the server said of N slices.

    Attributes:
        probability: tumor probability, shape (N,).
        opened: whether the gate opened, shape (N,).
        masks: uint8 0 or 1, shape (N, 256, 256).
    """

    probability: NDArray[np.float64]
    opened: NDArray[np.bool_]
    masks: NDArray[np.uint8]


def evaluate(folder: Path, data: Path, repository: Path) -> None:
    """Measures a model repository on a run's validation patients; writes `summary.json` there and prints it.

    Raises:
        DataError: the run or the dataset is not there.
    """
    run = Run.open(folder)
    summary = measure(repository, read_kaggle(data).of(run.validation))
    with replacing(folder / "summary.json") as partial:
        partial.write_text(json.dumps(summary, indent=2) + "\n")
    show(summary)


def measure(repository: Path, dataset: Dataset) -> dict[str, Any]:
    """Serves a model repository and asks it about real slices, gated and not, and about phantoms.

    Args:
        repository: a Triton model repository.
        dataset: slices of patients that the networks were not trained on.

    Returns:
        Figures with 95% intervals, and the counts of each patient that they are made from.
    """
    synthetic = phantoms(PHANTOMS, prevalence=0.35, seed=PHANTOM_SEED)
    with EmbeddedServer(repository) as server, Client(server.url) as client:
        gated = _ask(client, dataset, "auto")
        ungated = _ask(client, dataset, "always")
        on_phantoms = _ask(client, synthetic, "auto")
    return {
        "patients": [patient for patient, _ in dataset.volumes()],
        "slices": len(dataset),
        "tumor_slices": int(dataset.tumor.sum()),
        "detector": _detector_figures(dataset, gated),
        "dice_through_gate": _dice_figures(_cases(dataset, gated)),
        "dice_without_gate": _dice_figures(_cases(dataset, ungated)),
        "phantoms": {
            "slices": len(synthetic),
            "detector_auc": metrics.auc(on_phantoms.probability, synthetic.tumor),
            "sensitivity": metrics.sensitivity(on_phantoms.opened, synthetic.tumor),
            "specificity": metrics.specificity(on_phantoms.opened, synthetic.tumor),
            "dice_of_tumor_slices": _mean_dice_of_tumor_slices(synthetic, on_phantoms),
        },
        "cases": _cases(dataset, gated),
    }


def show(summary: dict[str, Any]) -> None:
    """Prints a summary as a table."""
    table = Table("figure", "value", "95% interval over patients")
    for section in ("detector", "dice_through_gate", "dice_without_gate", "phantoms"):
        table.add_section()
        for name, value in summary[section].items():
            if not name.endswith("_interval"):
                interval = " to ".join(f"{end:.3f}" for end in summary[section].get(f"{name}_interval", ()))
                shown = f"{value:.3f}" if isinstance(value, float) else str(value)
                table.add_row(f"{section}: {name}", shown, interval)
    Console().print(table)


def _ask(client: Client, dataset: Dataset, gate: GateMode) -> Answers:
    analyses = client.analyze_many(dataset.images, gate=gate, timeout_s=120)
    answers = list(track(analyses, f"asking, gate {gate}", total=len(dataset), transient=True))
    return Answers(
        np.array([answer.tumor_probability for answer in answers]),
        np.array([answer.segmented for answer in answers]),
        np.stack([answer.mask for answer in answers]),
    )


def _detector_figures(dataset: Dataset, answers: Answers) -> dict[str, Any]:
    groups = [rows for _, rows in dataset.volumes()]
    probability, opened, tumor = answers.probability, answers.opened, dataset.tumor
    statistics = {
        "auc": lambda rows: metrics.auc(probability[rows], tumor[rows]),
        "sensitivity": lambda rows: metrics.sensitivity(opened[rows], tumor[rows]),
        "specificity": lambda rows: metrics.specificity(opened[rows], tumor[rows]),
    }
    everything = np.arange(len(dataset))
    figures: dict[str, Any] = {}
    for name, statistic in statistics.items():
        figures[name] = statistic(everything)
        figures[f"{name}_interval"] = metrics.patient_interval(statistic, groups)
    figures["calibration_error"] = metrics.calibration_error(probability, tumor)
    return figures


def _cases(dataset: Dataset, answers: Answers) -> list[dict[str, Any]]:
    """Each patient's pixels, counted over the whole volume, so that a slice that was missed counts."""
    cases = []
    for patient, rows in dataset.volumes():
        predicted, truth = answers.masks[rows].astype(bool), dataset.masks[rows].astype(bool)
        dice = metrics.dice(predicted, truth)
        cases.append(
            {
                "patient": patient,
                "slices": len(rows),
                "tumor_slices": int(dataset.tumor[rows].sum()),
                "tumor_slices_missed": int((dataset.tumor[rows] & ~answers.opened[rows]).sum()),
                "true_positive_px": int((predicted & truth).sum()),
                "false_positive_px": int((predicted & ~truth).sum()),
                "false_negative_px": int((~predicted & truth).sum()),
                "dice": None if np.isnan(dice) else dice,
            }
        )
    return cases


def _dice_figures(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and median over patients. A patient without tumor in whom none was found has no Dice and does not count."""
    dice = np.array([case["dice"] for case in cases], float)
    groups = [np.array([index]) for index in range(len(cases))]
    return {
        "mean": float(np.nanmean(dice)),
        "mean_interval": metrics.patient_interval(lambda rows: float(np.nanmean(dice[rows])), groups),
        "median": float(np.nanmedian(dice)),
    }


def _mean_dice_of_tumor_slices(dataset: Dataset, answers: Answers) -> float:
    rows = np.flatnonzero(dataset.tumor)
    return float(np.mean([metrics.dice(answers.masks[row], dataset.masks[row]) for row in rows]))
