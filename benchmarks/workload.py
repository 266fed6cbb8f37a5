"""What is asked about: phantoms, at a prevalence."""

from dataclasses import dataclass

import numpy as np

from benchmarks.pair import Images
from gliogate.phantom import make_phantoms

SEED = 99


@dataclass(frozen=True, eq=False)
class Workload:
    """Slices that every row is measured on.

    Attributes:
        images: uint8 (N, 256, 256, 3).
        prevalence: the share that shows tumor.
    """

    images: Images
    prevalence: float

    @classmethod
    def draw(cls, slices: int, prevalence: float) -> "Workload":
        """Draws N slices; the same arguments give the same bytes."""
        images = np.stack([each.image for each in make_phantoms(slices, prevalence=prevalence, seed=SEED)])
        return cls(images, prevalence)
