"""Turns the detector's logits into probabilities that mean what they say, and picks the operating point."""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from training.errors import DataError

logger = logging.getLogger(__name__)


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
