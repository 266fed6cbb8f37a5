"""Turns the detector's logits into probabilities that mean what they say, and picks the operating point."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from training.errors import DataError

logger = logging.getLogger(__name__)

MASK_KNOT = 2.5
"""Where a mask's scaling bends, in logits."""
LEAST_SLOPE = 0.05
LARGEST_LOGIT = 20.0
LOGIT_BINS = 1000
_PATIENCE = {"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9}


@dataclass(frozen=True)
class PlattScaling:
    """sigmoid(slope · logit + offset). Source: Platt 1999."""

    slope: float
    offset: float

    @classmethod
    def fit(cls, logits: NDArray[np.floating], tumor: NDArray[np.bool_]) -> "PlattScaling":
        """Fits slope and offset by maximum likelihood to logits (N,) and labels (N,).

        A detector that has learned nothing, whose logits do not rise with tumor, keeps them as they are.

        Raises:
            DataError: there is only one class to fit to.
        """
        if tumor.all() or not tumor.any():
            raise DataError("calibration needs slices with tumor and slices without")
        regression = LogisticRegression(C=np.inf).fit(logits.reshape(-1, 1), tumor)
        slope, offset = float(regression.coef_[0, 0]), float(regression.intercept_[0])
        if slope <= 0:
            logger.warning(
                "the detector has learned nothing that could be calibrated: its answers do not rise with tumor"
            )
            return cls(1.0, 0.0)
        return cls(slope, offset)

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.float32]:
        """Probabilities (N,) of logits (N,)."""
        return (1 / (1 + np.exp(-np.clip(self.slope * logits + self.offset, -80, 80)))).astype(np.float32)


@dataclass(frozen=True)
class MaskScaling:
    """offset + slope · x + rise · relu(x - knot) - fall · relu(-x - knot), of a mask's logits; it never falls.

    Pixels at the rim of a tumor are said to be tumor, or not, more surely than they are; those inside and outside are
    not. Platt's straight line cannot make up for that.
    """

    slope: float
    offset: float
    rise: float
    fall: float
    knot: float

    @classmethod
    def fit(
        cls, logits: Iterable[NDArray[np.floating]], masks: Iterable[NDArray[np.generic]], *, knot: float = MASK_KNOT
    ) -> "MaskScaling":
        """Fits by maximum likelihood to the logits of slices' pixels and their labels, slice by slice.

        Where one class is missing, the logits stay as they are.
        """
        edges = np.linspace(-LARGEST_LOGIT, LARGEST_LOGIT, LOGIT_BINS + 1)
        centers = (edges[1:] + edges[:-1]) / 2
        all_of_them, tumor = np.zeros(LOGIT_BINS), np.zeros(LOGIT_BINS)
        for some, labels in zip(logits, masks, strict=True):
            clipped = np.clip(some.astype(np.float32).ravel(), -LARGEST_LOGIT, LARGEST_LOGIT - 1e-3)
            bins = ((clipped + LARGEST_LOGIT) * (LOGIT_BINS / (2 * LARGEST_LOGIT))).astype(np.intp)
            all_of_them += np.bincount(bins, minlength=LOGIT_BINS)
            tumor += np.bincount(bins, weights=labels.ravel() != 0, minlength=LOGIT_BINS)
        if not 0 < tumor.sum() < all_of_them.sum():
            return cls(1.0, 0.0, 0.0, 0.0, knot)

        bends = [centers, np.ones(LOGIT_BINS), np.maximum(centers - knot, 0), -np.maximum(-centers - knot, 0)]

        def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            """The mean cross-entropy, which is convex, and its gradient."""
            found = values @ bends
            missed = tumor * np.logaddexp(0, -found) + (all_of_them - tumor) * np.logaddexp(0, found)
            slopes = np.array(bends) @ (all_of_them * expit(found) - tumor)
            return float(missed.sum() / all_of_them.sum()), slopes / all_of_them.sum()

        never_falling = [(LEAST_SLOPE, None), (None, None), (0, None), (0, None)]
        best = minimize(
            loss, (0.5, 0.0, 0.5, 0.5), jac=True, bounds=never_falling, method="L-BFGS-B", options=_PATIENCE
        )
        return cls(*(float(value) for value in best.x), knot)

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """Calibrated logits of logits."""
        bends = self.rise * np.maximum(logits - self.knot, 0) - self.fall * np.maximum(-logits - self.knot, 0)
        return self.offset + self.slope * logits + bends


@dataclass(frozen=True)
class OperatingPoint:
    """Where the gate opens, and what that was seen to do.

    Attributes:
        detection_threshold: the probability from which the gate opens.
        asked_sensitivity: share of tumor slices that were to come through, at least.
        sensitivity: share that did.
        sensitivity_lower_bound: of it, one-sided, at 95% (Clopper and Pearson 1934). It takes slices for independent,
            which those of one patient are not.
        specificity: share of the slices without tumor that were passed over.
    """

    detection_threshold: float
    asked_sensitivity: float
    sensitivity: float
    sensitivity_lower_bound: float
    specificity: float

    @classmethod
    def choose(
        cls, probability: NDArray[np.floating], tumor: NDArray[np.bool_], *, sensitivity: float
    ) -> "OperatingPoint":
        """The highest specificity that the sensitivity leaves, with the threshold in steps of 0.001."""
        needed = int(np.ceil(sensitivity * np.count_nonzero(tumor)))
        weakest = np.sort(probability[tumor])[::-1][needed - 1]
        threshold = float(np.floor(weakest * 1000) / 1000)
        opened = probability >= threshold
        found, all_of_them = int(np.count_nonzero(opened & tumor)), int(np.count_nonzero(tumor))
        bound = binomtest(found, all_of_them, alternative="greater").proportion_ci(0.95, method="exact").low
        return cls(
            detection_threshold=threshold,
            asked_sensitivity=sensitivity,
            sensitivity=found / all_of_them,
            sensitivity_lower_bound=float(bound),
            specificity=float((~opened[~tumor]).mean()),
        )
