"""Masks' logits of different networks, brought to one scale, so that what was measured of some is true of another.

How surely a network says that there is no tumor where there is none depends on the course of its training: of five
networks of one recipe the medians were between -3.9 and -5.5. That level is the same on phantoms and on patients, so
that it can be told of a network which no patients are left for.
"""

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from training.data import phantoms
from training.predict import predict

OUTSIDE = -5.0
"""The median logit outside of tumors, once it is brought to scale."""

PHANTOMS = 64
SEED = 7_001


@dataclass(frozen=True)
class Levels:
    """What a segmenter says outside of tumors.

    Attributes:
        outside: the median of its logits there.
    """

    outside: float

    @classmethod
    def of(cls, segmenter: keras.Model) -> "Levels":
        """Measures a segmenter, slices (B, 256, 256, 3) in and logits (B, 256, 256) out, on phantoms."""
        some = phantoms(PHANTOMS, prevalence=0.5, seed=SEED)
        return cls(round(float(np.median(predict(segmenter, some.images)[some.masks == 0])), 4))

    @property
    def below(self) -> float:
        """What logits below 0 are multiplied with; 1 for a network that has learned nothing."""
        return OUTSIDE / self.outside if self.outside < -1 else 1.0

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """Brings logits to scale; no sign changes."""
        return np.where(logits < 0, logits * self.below, logits)
