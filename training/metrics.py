"""Figures that speak of patients: Dice per volume, and the detector's with intervals over patients."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Statistic = Callable[[NDArray[np.float64], NDArray[np.bool_]], float]


def dice(predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Dice coefficient of two binary arrays of one shape; NaN where both are empty, since it is undefined there."""
    total = int(np.count_nonzero(predicted)) + int(np.count_nonzero(truth))
    if total == 0:
        return float("nan")
    return 2 * int(np.count_nonzero(np.logical_and(predicted, truth))) / total


def auc(probability: NDArray[np.float64], tumor: NDArray[np.bool_]) -> float:
    """Area under the ROC curve over slices."""
    return float(roc_auc_score(tumor, probability))


def sensitivity(opened: NDArray[np.bool_], tumor: NDArray[np.bool_]) -> float:
    """Share of the tumor slices that were found."""
    return float(opened[tumor].mean())


def specificity(opened: NDArray[np.bool_], tumor: NDArray[np.bool_]) -> float:
    """Share of the slices without tumor that were passed over."""
    return float((~opened[~tumor]).mean())


def calibration_error(probability: NDArray[np.float64], tumor: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error over bins of equal count. Source: Nixon et al. 2019, arXiv:1904.01685 (adaptive)."""
    groups = np.array_split(np.argsort(probability), bins)
    gaps = [abs(probability[group].mean() - tumor[group].mean()) * len(group) for group in groups]
    return float(sum(gaps) / len(probability))


def patient_interval(
    statistic: Callable[[NDArray[np.intp]], float],
    groups: Sequence[NDArray[np.intp]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95% percentile bootstrap interval, drawing whole patients: slices of one patient are not independent.

    Args:
        statistic: a figure of the slices whose indices it gets.
        groups: the slice indices of each patient.
        resamples: how many draws.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    draws = [
        statistic(np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))]))
        for _ in range(resamples)
    ]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)
