"""Bringing a sequence onto the grid of another, by where both say that they lie.

In NumPy, though SciPy's `affine_transform` does the same: SciPy would make the extra for NIfTI thirty times as large.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEAST_OVERLAP: Final = 0.5
"""The share of a grid that a sequence has to cover to stand for the head that is seen there."""

_AT_THE_EDGE: Final = 1e-3
"""How far, in voxels, rounding may take a place out of a grid."""


def onto_grid(
    voxels: NDArray[Any], affine: NDArray[np.float64], *, grid: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float32] | None:
    """Interpolates voxels linearly at the places of another grid's.

    Args:
        voxels: (I, J, K).
        affine: (4, 4), theirs to mm.
        grid: (4, 4), that of the other grid.
        shape: of the other grid.

    Returns:
        float32 of that shape; what the voxels do not cover, but for one step beyond their edges, has their lowest
        value. None where they cover less than `LEAST_OVERLAP`.
    """
    to_voxels = np.linalg.inv(affine) @ grid
    padded = np.pad(voxels, 1, mode="edge")
    last = np.array(padded.shape)[:, np.newaxis] - 1
    found = np.full(shape, voxels.min(), np.float32)
    flat = np.indices(shape[:2]).reshape(2, -1)
    covered = 0
    for k in range(shape[2]):  # Plane by plane, to need little memory.
        places = to_voxels[:3, :2] @ flat + (to_voxels[:3, 2] * k + to_voxels[:3, 3] + 1)[:, np.newaxis]
        inside = ((places >= -_AT_THE_EDGE) & (places <= last + _AT_THE_EDGE)).all(axis=0)
        covered += np.count_nonzero(inside)
        plane = found[..., k].ravel()
        plane[inside] = _interpolated(padded, np.clip(places[:, inside], 0, last))
        found[..., k] = plane.reshape(shape[:2])
    return found if covered >= LEAST_OVERLAP * found.size else None


def _interpolated(voxels: NDArray[Any], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values at places (3, N) in a grid of at least two voxels along each axis."""
    corner = np.minimum(places.astype(np.intp), np.array(voxels.shape)[:, np.newaxis] - 2)
    beyond = places - corner
    values = np.zeros(places.shape[1])
    for step in np.ndindex(2, 2, 2):
        is_next = np.array(step)[:, np.newaxis]
        weights = np.where(is_next, beyond, 1 - beyond).prod(axis=0)
        values += weights * voxels[tuple(corner + is_next)]
    return values
