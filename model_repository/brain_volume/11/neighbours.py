"""What the slices of a head say of each other: the tumor logit of each, averaged with those of its neighbours.

A tumor goes through several slices; what a detector errs in, it mostly errs in one. The average is weighed by
millimetres, so that a head is judged alike whether its slices are thick or thin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import gating

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LEAST_DOUBT = 1e-7
"""How far from 0 and 1 a probability is taken to be at least: in 32 bits the logit of 1 itself is infinite."""


@dataclass(frozen=True)
class Neighbours:
    """How neighbouring slices are weighed, and what their average means.

    Attributes:
        reach_mm: the distance over which a neighbour's weight falls from 1 to 0 in a straight line.
        assumed_spacing_mm: the distance between neighbours where nobody says it.
        slope: of the average logit; with `offset`, it makes the average a calibrated one.
        offset: see `slope`.
    """

    reach_mm: float
    assumed_spacing_mm: float
    slope: float
    offset: float

    def weights(self, count: int, spacing_mm: float | None) -> np.ndarray:
        """Returns float64 [count, count]: what each slice's average (a row) takes of each slice; a row's sum is 1."""
        places = np.arange(count) * (spacing_mm or self.assumed_spacing_mm)
        weights = np.maximum(0.0, 1.0 - np.abs(places[:, np.newaxis] - places) / self.reach_mm)
        return weights / weights.sum(axis=1, keepdims=True)

    def judge(self, probability: np.ndarray, spacing_mm: float | None) -> np.ndarray:
        """Returns the calibrated probability of each slice, seen among the others, FP32 [slices, 1].

        Args:
            probability: the detector's, FP32 [slices, 1], in the order of the slices along the head.
            spacing_mm: between neighbours; None where nobody says it.
        """
        sure = np.clip(probability.astype(np.float64), LEAST_DOUBT, 1.0 - LEAST_DOUBT)
        average = self.weights(len(sure), spacing_mm) @ np.log(sure / (1.0 - sure))
        return (1.0 / (1.0 + np.exp(-(self.slope * average + self.offset)))).astype(np.float32)


def read_neighbours(path: Path) -> Neighbours | None:
    """Reads how neighbours are weighed; None where an operating point is of single slices.

    Raises:
        InvalidValueError: the file is not JSON, or a number is missing or makes no sense; names the file.
        OSError: the file cannot be read.
    """
    try:
        found = gating.read_object(path.read_text(encoding="utf-8")).get("neighbours")
        return None if found is None else _neighbours(found)
    except ValueError as error:
        raise gating.InvalidValueError(f"{path}: {error}") from error


def _neighbours(found: Any) -> Neighbours:
    names = tuple(Neighbours.__dataclass_fields__)
    if not isinstance(found, dict) or set(found) != set(names):
        raise gating.InvalidValueError(f"neighbours: expected the numbers {', '.join(names)}")
    return Neighbours(**{name: _number(found, name, positive=name != "offset") for name in names})


def _number(found: Mapping[str, object], name: str, *, positive: bool) -> float:
    value = found[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or (positive and not value > 0):  # type: ignore[operator]
        raise gating.InvalidValueError(f"neighbours.{name} is {value!r}, expected a number{' above 0' * positive}")
    return float(value)  # type: ignore[arg-type]
