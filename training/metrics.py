"""The field's figures, of slices and of pixels, with intervals over patients.

A figure that is not defined is NaN, never a number that happens to suit: Dice where both masks are empty, sensitivity
where there is no tumor, AUC where there is one class only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Confusion:
    """What was said held against what is true, counted: slices of a detector, or pixels of a segmenter.

    Its figures have the shape of the counts.

    Attributes:
        true_positive: said and true.
        false_positive: said, not true.
        false_negative: true, not said.
        true_negative: neither.
    """

    true_positive: NDArray[np.int64]
    false_positive: NDArray[np.int64]
    false_negative: NDArray[np.int64]
    true_negative: NDArray[np.int64]

    @classmethod
    def of(cls, said: NDArray[np.generic], true: NDArray[np.generic], *, axis: int | tuple[int, ...] = ()) -> Self:
        """Counts two arrays of one shape, in which anything but 0 is a yes, over these axes; over none by default."""
        said, true = said.astype(bool), true.astype(bool)
        return cls(*(np.sum(both, axis) for both in (said & true, said & ~true, ~said & true, ~said & ~true)))

    @property
    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """True positive, false positive, false negative, true negative."""
        return self.true_positive, self.false_positive, self.false_negative, self.true_negative

    def at(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """The counts at these indices, or where this is true."""
        return type(self)(*(count[rows] for count in self.counts))

    def total(self) -> Self:
        """All counts in one: the volume, where there was one for each slice."""
        return type(self)(*(np.sum(count) for count in self.counts))

    def gated(self, opened: NDArray[np.bool_]) -> Self:
        """The same with nothing said where the gate stayed shut; `opened` has the shape of the counts."""
        found, wrong, missed, clear = self.counts
        return type(self)(found * opened, wrong * opened, missed + found * ~opened, clear + wrong * ~opened)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share that is right, of all."""
        return _share(self.true_positive + self.true_negative, sum(self.counts))

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share that is true, of what was said."""
        return _share(self.true_positive, self.true_positive + self.false_positive)

    @property
    def sensitivity(self) -> NDArray[np.float64]:
        """Share that was said, of what is true; also called recall."""
        return _share(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> NDArray[np.float64]:
        """Share that was not said, of what is not true."""
        return _share(self.true_negative, self.true_negative + self.false_positive)

    @property
    def dice(self) -> NDArray[np.float64]:
        """Twice the overlap over the sum of both sides. Of slices, it goes by the name of F1."""
        return _share(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def jaccard(self) -> NDArray[np.float64]:
        """The overlap over the union."""
        return _share(self.true_positive, self.true_positive + self.false_positive + self.false_negative)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def dice(predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Dice coefficient of two binary arrays of one shape; NaN where both are empty, since it is undefined there."""
    return float(Confusion.of(predicted, truth, axis=tuple(range(predicted.ndim))).dice)


def sensitivity(opened: NDArray[np.bool_], tumor: NDArray[np.bool_]) -> float:
    """Share of the tumor slices that were found; NaN where there are none."""
    return float(Confusion.of(opened, tumor, axis=0).sensitivity)


def specificity(opened: NDArray[np.bool_], tumor: NDArray[np.bool_]) -> float:
    """Share of the slices without tumor that were passed over; NaN where there are none."""
    return float(Confusion.of(opened, tumor, axis=0).specificity)


def auc(probability: NDArray[np.floating], tumor: NDArray[np.bool_]) -> float:
    """Area under the ROC curve over slices; NaN where all are of one class.

    By ranks, which a bootstrap can afford a thousand times. Source: Mann and Whitney 1947.
    """
    positive = int(np.count_nonzero(tumor))
    negative = len(tumor) - positive
    if not positive or not negative:
        return float("nan")
    above = rankdata(probability)[tumor].sum() - positive * (positive + 1) / 2
    return float(above / (positive * negative))


def average_precision(probability: NDArray[np.floating], tumor: NDArray[np.bool_]) -> float:
    """Precision averaged over the steps of sensitivity, from slices; NaN where all are of one class."""
    if tumor.all() or not tumor.any():
        return float("nan")
    return float(average_precision_score(tumor, probability))


@dataclass(frozen=True)
class CalibrationBin:
    """Slices of about one probability.

    Attributes:
        slices: how many.
        probability: their mean probability.
        tumor_share: the share of them that shows tumor.
    """

    slices: int
    probability: float
    tumor_share: float


def calibration_curve(
    probability: NDArray[np.floating], tumor: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> list[CalibrationBin]:
    """Slices sorted by probability and cut into bins of equal count; as many bins as slices where those are fewer.

    Of equal count, since most probabilities lie close to 0 or 1 and bins of equal width would be empty in between.
    """
    groups = np.array_split(np.argsort(probability, kind="stable"), min(bins, len(probability)))
    return [CalibrationBin(len(g), float(np.mean(probability[g], dtype=float)), float(tumor[g].mean())) for g in groups]


def calibration_error(
    probability: NDArray[np.floating], tumor: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error (ECE) over bins of equal count. Source: Nixon et al. 2019, arXiv:1904.01685."""
    curve = calibration_curve(probability, tumor, bins)
    return sum(group.slices * abs(group.probability - group.tumor_share) for group in curve) / len(probability)


@dataclass(frozen=True)
class OutlineDistances:
    """How far two outlines lie apart.

    Attributes:
        predicted: from each pixel of the predicted outline to the nearest of the true one, in pixels, shape (P,).
        true: from each pixel of the true outline to the nearest of the predicted one, in pixels, shape (T,).
    """

    predicted: NDArray[np.float64]
    true: NDArray[np.float64]

    @classmethod
    def between(cls, predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> Self | None:
        """The distances in one slice, masks (H, W); None where a mask is empty, since there is none then.

        An outline is the pixels of a mask that touch its outside by an edge; the border of the picture is outside.
        """
        if not predicted.any() or not truth.any():
            return None
        said, true = (
            np.argwhere(mask & ~binary_erosion(mask)) for mask in (predicted.astype(bool), truth.astype(bool))
        )
        return cls(KDTree(true).query(said)[0], KDTree(said).query(true)[0])


def hd95(slices: Sequence[OutlineDistances]) -> float:
    """Symmetric 95th-percentile Hausdorff distance of a volume, in pixels, from the outlines in its slices.

    Distances are measured within slices, since the data does not say how far slices lie apart, and pooled over those
    that both masks reach; a slice that one of them leaves empty has no distance, and is what Dice and sensitivity are
    for. Of both directions the larger counts. Source: Maier-Hein et al. 2024, doi:10.1038/s41592-023-02151-z.

    Returns:
        NaN where no slice has a distance.
    """
    if not slices:
        return float("nan")
    directions = ([outline.predicted for outline in slices], [outline.true for outline in slices])
    return float(max(np.percentile(np.concatenate(distances), 95) for distances in directions))


def patient_interval(
    statistic: Callable[[NDArray[np.intp]], float],
    groups: Sequence[NDArray[np.intp]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95% percentile bootstrap interval, drawing whole patients: slices of one patient are not independent.

    Args:
        statistic: a figure of the slices whose indices it gets; draws in which it is NaN do not count.
        groups: the slice indices of each patient.
        resamples: how many draws.
        seed: of the draws.

    Returns:
        NaN and NaN for a single patient, who says nothing of others, and where the figure is never defined.
    """
    if len(groups) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    draws = np.array(
        [
            statistic(np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))]))
            for _ in range(resamples)
        ]
    )
    defined = draws[~np.isnan(draws)]
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (np.nan, np.nan)
    return float(low), float(high)
