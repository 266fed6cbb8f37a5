"""How the slices of a volume lie in the grid of its source: which axis is which, and which of them run backwards."""

from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Plane = Literal["axial", "coronal", "sagittal"]
Scalar = TypeVar("Scalar", bound=np.generic)

FEW_SLICES: Final = 10
"""An axis with fewer voxels than one in so many of both others' is the one through the slices, whatever its spacing."""

THICK_SLICE_RATIO: Final = 1.5
"""How much wider than the axial slices' a spacing must be to be that of slices which were acquired across its axis."""

_PLANES: Final[tuple[Plane, ...]] = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Layout:
    """A reordering of the axes of a grid, without any interpolation; it is undone exactly.

    Attributes:
        axes: the axes of the grid, (i, j, k) = (0, 1, 2), that become slices, rows and columns.
        flips: whether slices, rows and columns run against their axis.
    """

    axes: tuple[int, int, int] = (2, 1, 0)
    flips: tuple[bool, bool, bool] = (False, False, False)

    @classmethod
    def of(cls, affine: NDArray[np.float64], shape: tuple[int, ...] | None = None) -> Self:
        """Lays slices into a grid so that they look as radiology shows them.

        Slices are cut across the axis with the widest spacing, for there they were acquired, or across one that has
        hardly any voxels (`FEW_SLICES`). Where no axis is `THICK_SLICE_RATIO` times as wide as the one nearest to
        head-foot, they are axial: so the networks know them.
        Slices go from foot to head (coronal ones from back to front, sagittal ones from left to right). Anterior is
        up, in coronal and sagittal slices superior; the patient's right is on the left, in sagittal slices anterior.

        Args:
            affine: (4, 4), from the grid's (i, j, k) to mm, RAS+.
            shape: of the grid, (I, J, K); without it, no axis has hardly any voxels.
        """
        spacing = spacing_of(affine)
        cosines = affine[:3, :3] / spacing
        # world[i] is the direction, right, anterior or superior, that axis i is nearest to.
        world = max(permutations(range(3)), key=lambda order: sum(abs(cosines[w, i]) for i, w in enumerate(order)))
        widest = int(np.argmax(spacing))
        axial = world.index(2)
        through = widest if spacing[widest] > THICK_SLICE_RATIO * spacing[axial] else axial
        if shape is not None:
            fewest, second, _ = np.argsort(shape)
            if shape[fewest] * FEW_SLICES < shape[second]:
                through = int(fewest)
        columns, rows = sorted({0, 1, 2} - {through}, key=lambda axis: world[axis])
        axes = (through, rows, columns)
        runs_up = [bool(cosines[world[axis], axis] > 0) for axis in axes]
        return cls(axes, (not runs_up[0], runs_up[1], runs_up[2]))

    def to_slices(self, grid: NDArray[Scalar]) -> NDArray[Scalar]:
        """A view (N, H, W) of an array on the grid, (I, J, K)."""
        return np.flip(np.transpose(grid, self.axes), self._flipped)

    def to_grid(self, slices: NDArray[Scalar]) -> NDArray[Scalar]:
        """A view (I, J, K) of an array on the slices, (N, H, W): the inverse of `to_slices`."""
        return np.transpose(np.flip(slices, self._flipped), np.argsort(self.axes))

    def to_slices_affine(self, affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Turns the affine of a grid of `shape` (I, J, K) into that from (slice, row, column) to mm, RAS+."""
        reorder = np.zeros((4, 4))
        reorder[3, 3] = 1
        for index, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            reorder[axis, index] = -1 if flip else 1
            reorder[axis, 3] = shape[axis] - 1 if flip else 0
        return np.asarray(affine @ reorder)

    def plane(self, affine: NDArray[np.float64]) -> Plane:
        """The anatomical plane that the slices are nearest to."""
        return plane_across(affine[:3, self.axes[0]])

    @property
    def _flipped(self) -> tuple[int, ...]:
        return tuple(index for index, flip in enumerate(self.flips) if flip)


def plane_across(direction: NDArray[np.float64]) -> Plane:
    """The anatomical plane that a direction (3,), of RAS+ or LPS+, is nearest to being perpendicular to."""
    return _PLANES[int(np.argmax(np.abs(direction)))]


def spacing_of(affine: NDArray[Any]) -> NDArray[np.float64]:
    """The distances, in mm, between neighbours along the three axes of an affine (4, 4)."""
    return np.asarray(np.linalg.norm(affine[:3, :3].astype(np.float64), axis=0))
