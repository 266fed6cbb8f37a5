"""Bringing a sequence onto the grid of another, by where both say that they lie."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gliogate.volumes.extras import require

LEAST_OVERLAP: Final = 0.5
"""The share of a grid that a sequence has to cover to stand for the head that is seen there."""


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

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    ndimage = require("scipy.ndimage", extra="nifti")
    to_voxels = np.linalg.inv(affine) @ grid
    padded = np.pad(voxels.astype(np.float32), 1, mode="edge")
    found: NDArray[np.float32] = ndimage.affine_transform(
        padded, to_voxels[:3, :3], to_voxels[:3, 3] + 1, output_shape=shape, order=1, mode="constant", cval=np.nan
    )
    outside = np.isnan(found)
    if outside.mean() > 1 - LEAST_OVERLAP:
        return None
    found[outside] = voxels.min()
    return found
