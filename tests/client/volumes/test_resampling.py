"""Resampling gives what SciPy's does, at any angle."""

import numpy as np
import pytest
from scipy import ndimage
from support.volume_files import RAS, make_head

from gliogate.volumes.resampling import onto_grid

HEAD = make_head().astype(np.float32)


def turned(degrees: float) -> np.ndarray:
    """The head's affine, turned around the head's centre and shifted by half a millimetre."""
    a = np.radians(degrees)
    turn, to_centre = np.eye(4), np.eye(4)
    turn[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    to_centre[:3, 3] = (RAS @ [*(np.array(HEAD.shape) / 2), 1])[:3]
    grid: np.ndarray = to_centre @ turn @ np.linalg.inv(to_centre) @ RAS
    grid[:3, 3] += 0.5
    return grid


@pytest.mark.parametrize("degrees", [0, 7, 90, 180])
def test_it_interpolates_linearly(degrees):
    grid, shape = turned(degrees), (44, 36, 9)

    found = onto_grid(HEAD, RAS, grid=grid, shape=shape)

    to_voxels = np.linalg.inv(RAS) @ grid
    reference = ndimage.affine_transform(
        np.pad(HEAD, 1, mode="edge"), to_voxels[:3, :3], to_voxels[:3, 3] + 1, output_shape=shape, order=1, cval=np.nan
    )
    inside = ~np.isnan(reference)
    assert inside.mean() > 0.5
    assert np.allclose(found[inside], reference[inside], atol=0.01)
    assert (found[~inside] == HEAD.min()).mean() > 0.99  # But for those that rounding takes out of SciPy's grid.


def test_what_covers_less_than_half_is_none():
    elsewhere = RAS.copy()
    elsewhere[:3, 3] += 0.6 * np.array(HEAD.shape) @ RAS[:3, :3]

    assert onto_grid(HEAD, RAS, grid=elsewhere, shape=HEAD.shape) is None
