"""In which parts a head goes to the server, so that its progress is told, and no request is as large as a head."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import Final, NamedTuple

from gliogate.contract import ASSUMED_SPACING_MM, CONTEXT_MM, MOST_SLICES

IN_FLIGHT: Final = 2
"""How many parts are under way at a time: one is worked on, and the next is there when that is done."""

LEAST: Final = 24
"""Slices that a part has at least, without its context: a request for each would cost more than it takes."""

TIMES_CONTEXT: Final = 6
"""A part has so many times the slices of its context at one end: for the context the detector is asked again."""

CONTEXT_SHARE: Final = 4
"""The context at one end is at most one in so many of a request's slices; of very thin slices, it reaches less far."""

SLICE_MESSAGE_BYTES: Final = 340_000
"""What a slice takes in a message at most: its mask and the mask's probabilities, in an answer."""


class Part(NamedTuple):
    """Consecutive slices of a head that are asked about in one request.

    Attributes:
        start: the first that is answered.
        stop: the one after the last.
        before: how many slices before it go along as context.
        after: how many after it.
    """

    start: int
    stop: int
    before: int
    after: int

    @property
    def sent(self) -> slice:
        """All slices that go along."""
        return slice(self.start - self.before, self.stop + self.after)


def parts_of(wanted: Sequence[int], count: int, *, spacing_mm: float | None, message_bytes: int) -> list[Part]:
    """Parts that hold all slices that are asked for.

    Args:
        wanted: their indices, in ascending order.
        count: slices of the head.
        spacing_mm: between neighbours; None where it is unknown.
        message_bytes: the largest message that may be sent or taken.
    """
    sent = min(MOST_SLICES, max(1, message_bytes // SLICE_MESSAGE_BYTES))
    # A neighbour at just that distance weighs nothing.
    context = min(sent // CONTEXT_SHARE, max(0, ceil(CONTEXT_MM / (spacing_mm or ASSUMED_SPACING_MM)) - 1))
    most = min(max(LEAST, TIMES_CONTEXT * context), sent - 2 * context)
    breaks = [0, *(at for at, (one, other) in enumerate(pairwise(wanted), start=1) if other != one + 1), len(wanted)]
    parts = []
    for begin, end in pairwise(breaks):
        if begin == end:
            continue
        first, stop = wanted[begin], wanted[end - 1] + 1
        # Alike in size: a last part of a few slices would be nearly all context.
        number = ceil((stop - first) / most)
        edges = [first + (stop - first) * at // number for at in range(number + 1)]
        parts += [Part(a, b, min(context, a), min(context, count - b)) for a, b in pairwise(edges)]
    return parts
