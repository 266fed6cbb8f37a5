"""What the requests hold: synthetic scans, no two requests alike, or the pictures of a folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gliogate import ImageError
from gliogate.images import load_picture
from gliogate.phantom import MAX_SERIES, make_phantom
from gliogate.scans import find_scans
from loadtests.errors import SettingsError

Slice = NDArray[np.uint8]

STAMP_PX: Final = 4
"""Pixels in the corner of a phantom, air in every one, that hold a slice's own number: 48 bits, 4 in each channel."""

INDEX_BITS: Final = 12
"""How many of the bits tell the slices of one request apart; the others are the request's number."""


@dataclass
class Phantoms:
    """Synthetic scans, drawn once and sent over and over, each time with another stamp.

    Attributes:
        count: how many there are.
        seed: which series, see `gliogate.phantom`.
    """

    count: int = 128
    seed: int = 0
    _drawn: dict[tuple[int, bool], Slice] = field(default_factory=dict, repr=False)

    def at(self, prevalence: float | None) -> "Pool":
        """Those of which this share shows tumor, exactly, in an order of the seed's."""
        assert prevalence is not None  # noqa: S101  `Settings` saw to it
        # The order is that of `make_phantoms`; a head that was drawn for another prevalence is not drawn again.
        tumors = np.arange(self.count) < round(self.count * prevalence)
        np.random.Generator(np.random.PCG64(self.seed)).shuffle(tumors)
        return Pool([self._draw(index, tumor=bool(tumor)) for index, tumor in enumerate(tumors)], stamped=True)

    def _draw(self, index: int, *, tumor: bool) -> Slice:
        if (index, tumor) not in self._drawn:
            self._drawn[index, tumor] = make_phantom(self.seed * MAX_SERIES + index, tumor=tumor).image
        return self._drawn[index, tumor]


@dataclass
class Pictures:
    """The pictures of a folder, as they are.

    Attributes:
        folder: where they are; all that is below it counts.
    """

    folder: Path
    _pool: "Pool | None" = field(default=None, repr=False)

    def at(self, prevalence: float | None) -> "Pool":  # noqa: ARG002  a folder has the prevalence that it has
        """All of them.

        Raises:
            SettingsError: there are none, or one cannot be read; names all of those.
        """
        if self._pool is None:
            self._pool = Pool(self._read(), stamped=False)
        return self._pool

    def _read(self) -> list[Slice]:
        pictures, broken = [], []
        if not self.folder.is_dir():
            raise SettingsError(f"--payloads: {self.folder}: there is no such folder")
        try:
            scans = find_scans([self.folder])
        except ImageError as error:
            raise SettingsError(f"--payloads: {error}") from error
        for scan in scans:
            try:
                pictures.append(load_picture(scan.path))
            except ImageError as error:
                broken.append(str(error))
        if broken:
            told = "; ".join(broken[:5]) + (f"; and {len(broken) - 5} more" if len(broken) > 5 else "")
            raise SettingsError(f"--payloads: {len(broken)} of {len(scans)} pictures cannot be read: {told}")
        return pictures


@dataclass
class Pool:
    """Slices to send, in turn.

    Attributes:
        slices: uint8 (height, width, 3).
        stamped: whether a request's number is written into its slice.
    """

    slices: Sequence[Slice]
    stamped: bool

    def take(self, number: int, count: int = 1) -> list[Slice]:
        """The slices of a request.

        Args:
            number: of the request, counted over the whole run.
            count: how many slices it holds; above 1 they are copies, so that each can have a stamp of its own.

        Returns:
            Arrays that are good until the next call: the SDK copies them before it waits for anything.
        """
        chosen = [self.slices[(number * count + index) % len(self.slices)] for index in range(count)]
        if self.stamped:
            chosen = [slice_.copy() for slice_ in chosen] if count > 1 else chosen
            for index, slice_ in enumerate(chosen):
                _stamp(slice_, (number << INDEX_BITS) + index)
        return chosen


def _stamp(slice_: Slice, number: int) -> None:
    digits = [(number >> shift) & 0xF for shift in range(0, 48, 4)]
    slice_[0, :STAMP_PX] = np.array(digits, np.uint8).reshape(STAMP_PX, 3)
