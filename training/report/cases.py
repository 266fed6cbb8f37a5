"""Which patients a report shows, and on which slice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.pictures import Panels, panels
from training.answers import Answers
from training.data import Dataset

SHOWN = 3
"""Patients of a kind, best, median or worst; fewer where there are fewer than three times as many."""


@dataclass(frozen=True)
class Shown:
    """One slice that stands for a patient.

    Attributes:
        case: the patient's counts and figures, from the summary.
        slice_name: the slice.
        tumor: whether it shows tumor.
        probability: what the detector said of it.
        opened: whether the gate opened.
        pictures: the five panels; the predicted mask is the one that comes through the gate.
    """

    case: dict[str, Any]
    slice_name: str
    tumor: bool
    probability: float
    opened: bool
    pictures: Panels


def rank(cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases with a Dice through the gate, best first."""
    defined = [case for case in cases if case["through_gate"]["dice"] is not None]
    return sorted(defined, key=lambda case: (-case["through_gate"]["dice"], case["patient"]))


def choose(ranked: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The best, the median and the worst of ranked cases, nobody twice; what is empty is left out."""
    count = len(ranked)
    shown = min(SHOWN, (count + 2) // 3)
    best, rest = ranked[:shown], ranked[shown:]
    worst = rest[-shown:]
    between = rest[: len(rest) - len(worst)]
    start = max(0, min((count - shown + 1) // 2 - shown, len(between) - shown))
    chosen = {"Best": best, "Median": between[start : start + shown], "Worst": worst}
    return {name: list(cases) for name, cases in chosen.items() if cases}


def show(case: dict[str, Any], dataset: Dataset, answers: Answers) -> Shown:
    """Pictures the slice with the largest true mask, or where all are empty, with the largest predicted one."""
    rows = np.flatnonzero(dataset.patients == case["patient"])
    predicted = answers.gated_masks[rows]
    # Not of both together: a wide false alarm in air, on the last slice of a head, would stand for the patient.
    shown = dataset.masks[rows] if dataset.tumor[rows].any() else predicted
    best = int(np.argmax(np.count_nonzero(shown, axis=(1, 2))))
    row = rows[best]
    return Shown(
        case,
        str(dataset.names[row]),
        bool(dataset.tumor[row]),
        float(answers.probability[row]),
        bool(answers.opened[row]),
        panels(dataset.images[row], dataset.masks[row], predicted[best]),
    )
