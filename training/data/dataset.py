"""Slices with their masks, in memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gliogate.phantom import make_phantoms


@dataclass(frozen=True)
class Dataset:
    """Slices with their masks, in the order of patient and axis.

    Attributes:
        patients: the patient of each slice, shape (N,).
        names: the file stem of each slice, shape (N,).
        images: uint8, shape (N, 256, 256, 3), channels pre-contrast, FLAIR, post-contrast.
        masks: uint8 0 or 1, shape (N, 256, 256).
    """

    patients: NDArray[np.str_]
    names: NDArray[np.str_]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def tumor(self) -> NDArray[np.bool_]:
        """Which slices show tumor: those whose mask is not empty. Shape (N,)."""
        return self.masks.any(axis=(1, 2))

    def at(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Dataset":
        """The slices at these indices, or where this is true."""
        return Dataset(self.patients[rows], self.names[rows], self.images[rows], self.masks[rows])

    def of(self, patients: Iterable[str]) -> "Dataset":
        """The slices of these patients only."""
        return self.at(np.isin(self.patients, list(patients)))

    def spread(self, slices: int) -> "Dataset":
        """So many slices at most, evenly from the first to the last."""
        return self.at(np.linspace(0, len(self) - 1, min(slices, len(self))).astype(int))

    def volumes(self) -> Iterator[tuple[str, NDArray[np.intp]]]:
        """Each patient with the indices of its slices."""
        for patient in np.unique(self.patients):
            yield str(patient), np.flatnonzero(self.patients == patient)


def phantoms(count: int, *, prevalence: float, seed: int) -> Dataset:
    """Synthetic slices as a dataset; each is a patient of its own."""
    made = list(make_phantoms(count, prevalence=prevalence, seed=seed))
    names = np.array([phantom.name for phantom in made])
    return Dataset(names, names, np.stack([p.image for p in made]), np.stack([p.mask for p in made]))
