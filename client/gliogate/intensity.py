"""Which values of a picture or volume become black and white."""

from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_TAIL_PERCENTS: Final = tuple(each / 10 for each in range(21))
"""Where marks are looked for, from either end."""

_FAR: Final = 1.0
"""Values are marks where they are as far from all others as those span, or farther: nothing in a head is."""

_BLACK_TOLERANCE: Final = 0.05
"""The minimum is black, unless it is farther below the lowest thousandth than this share of the range."""

_OUTSIDE_SHARE: Final = 0.2
_BELOW_OUTSIDE: Final = 0.02
"""A value that all corners have, and this share of the voxels, is the outside of the head, even where so many of the
others are below it."""


class ValueRange(NamedTuple):
    """What becomes black and white.

    Attributes:
        black: the value that becomes 0.
        white: that becomes 255; equal to `black` where all values are.
        outside: the value around the head, where it is not the lowest one: it is to become 0 as well.
        notes: what was found odd, to follow the name of the source.
    """

    black: float
    white: float
    outside: float | None = None
    notes: tuple[str, ...] = ()


def value_range(values: NDArray[Any]) -> ValueRange:
    """Finds the range of finite values that is worth showing.

    The minimum becomes black and the 99.9th percentile white. Marks are left out at either end: letters that were
    burned in, and few voxels far below all others. Where values are z-scores within the head, and the outside is 0,
    among them, the range is that of the head.

    Args:
        values: floats of one channel, of any shape; at least one.
    """
    outside = _outside(values)
    inside = values if outside is None else values[values != outside]
    levels = np.percentile(inside, [*_TAIL_PERCENTS, *(100 - each for each in _TAIL_PERCENTS[:0:-1])])
    # From the second percentile down to the first thousandth, and from the 98th percentile up to white.
    falling, rising = levels[len(_TAIL_PERCENTS) - 1 : 0 : -1], levels[len(_TAIL_PERCENTS) :]
    minimum, lowest, white = float(levels[0]), float(falling[-1]), float(rising[-1])
    if rising[0] > falling[0]:
        white = _until_far(rising, span_from=float(falling[0]))
        lowest = -_until_far(-falling, span_from=-white)
    black = lowest if lowest - minimum > _BLACK_TOLERANCE * max(0.0, white - lowest) else minimum
    notes = []
    if white < rising[-1]:
        share = np.mean(inside > white + _FAR * (white - black))
        notes.append(f"{share:.2%} of the voxels are far brighter than all others, as burned-in marks are: left out")
    if lowest > falling[-1]:
        share = np.mean(inside < black)
        notes.append(f"{share:.2%} of the voxels are far darker than all others: left out")
    if outside is not None:
        notes.append(f"the value around the head, {outside:g}, lies among those of the head: taken for black")
    return ValueRange(black, white if white > black else float(inside.max()), outside, tuple(notes))


def _until_far(levels: NDArray[Any], *, span_from: float) -> float:
    """The last of ascending levels before one that is far from all below it."""
    for level, following in pairwise(levels.tolist()):
        if following - level > _FAR * (level - span_from):
            return float(level)
    return float(levels[-1])


def _outside(values: NDArray[Any]) -> float | None:
    corners = values[np.ix_(*((0, -1) for _ in values.shape))]
    value = corners.flat[0]
    if not (corners == value).all() or np.mean(values == value) < _OUTSIDE_SHARE:
        return None
    inside = values[values != value]
    return float(value) if inside.size and np.mean(inside < value) > _BELOW_OUTSIDE else None
