"""Turns the detector's logits into probabilities that mean what they say, and picks the operating point."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

SENSITIVITY = 0.95
"""Share of tumor slices that the gate must let through: a miss costs a mask, a false opening only time."""


@dataclass(frozen=True)
class PlattScaling:
    """sigmoid(slope · logit + offset). Source: Platt 1999."""

    slope: float
    offset: float

    @classmethod
    def fit(cls, logits: NDArray[np.floating], tumor: NDArray[np.bool_]) -> "PlattScaling":
        """Fits slope and offset by maximum likelihood to logits (N,) and labels (N,)."""
        regression = LogisticRegression(C=np.inf).fit(logits.reshape(-1, 1), tumor)
        return cls(float(regression.coef_[0, 0]), float(regression.intercept_[0]))


def detection_threshold(
    probability: NDArray[np.floating], tumor: NDArray[np.bool_], *, sensitivity: float = SENSITIVITY
) -> float:
    """The highest threshold, in steps of 0.01, at which the sensitivity is reached."""
    steps = np.arange(0.99, 0.0, -0.01).round(2)
    reached = [step for step in steps if (probability[tumor] >= step).mean() >= sensitivity]
    return float(reached[0]) if reached else float(steps[-1])
