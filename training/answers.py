"""What a detector and a segmenter say of a dataset's slices."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """What was said of N slices.

    Attributes:
        probability: calibrated probability of tumor, shape (N,).
        opened: whether the gate opened, shape (N,).
        masks: uint8 0 or 1, shape (N, 256, 256): what the segmenter outlines, whether the gate opened or not.
    """

    probability: NDArray[np.float32]
    opened: NDArray[np.bool_]
    masks: NDArray[np.uint8]

    @cached_property
    def gated_masks(self) -> NDArray[np.uint8]:
        """What comes through the gate: empty where it stayed shut. Shape (N, 256, 256)."""
        return self.masks * self.opened[:, None, None].astype(np.uint8)

    @classmethod
    def gated(cls, probability: NDArray[np.float32], masks: NDArray[np.uint8], *, threshold: float) -> "Answers":
        """Opens the gate where the probability reaches the threshold."""
        return cls(probability, probability >= threshold, masks)
