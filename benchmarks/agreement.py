"""Whether a system finds what the engines find: else, whatever it computes, it is not the same work."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.measured import SHUT, Measured
from gliogate.contract import SLICE_SIZE

SAME_NETWORKS = 0.02
"""Share of slices, and of pixels, in which answers of the same networks may differ: some meet a threshold by a hair."""

OTHER_NETWORKS = 0.1
"""The same between networks that were rounded differently, which shifts what lies near a threshold."""

SMALLEST_AREA = SLICE_SIZE**2 // 100
"""Pixels; smaller masks, as false alarms have, are held against this: of a speck, a few pixels are a large share."""


class WrongAnswersError(Exception):
    """A system does not find what is expected; the message says what it decides or outlines otherwise."""


@dataclass(frozen=True)
class References:
    """The answers that others are held against.

    Attributes:
        first: of every prevalence and networks, by the name of these: the first answers that there were, which are the
            limit's wherever one is computed with them.
    """

    first: dict[tuple[float, str], Measured] = field(default_factory=dict)

    def check(self, measured: Measured, places: Sequence[int], prevalence: float, networks: str) -> None:
        """Holds answers against the first of the same networks; the first ones against those of others, more loosely.

        Args:
            measured: the answers.
            places: in the workload, of each slice that was asked about.
            prevalence: of the workload.
            networks: by whom they were computed, see `System.networks`.

        Raises:
            WrongAnswersError: they differ in more than they may.
        """
        if reference := self.first.get((prevalence, networks)):
            hold(measured, reference, places, SAME_NETWORKS)
            return
        for (share, _), reference in self.first.items():
            if share == prevalence:
                hold(measured, reference, places, OTHER_NETWORKS)
        self.first[prevalence, networks] = measured


def hold(measured: Measured, reference: Measured, places: Sequence[int], mismatch: float) -> None:
    """Compares decisions, and the masks pixel by pixel where both gates opened.

    Args:
        measured: of N slices.
        reference: of a whole workload.
        places: (N,), which slices of that.
        mismatch: the share that may differ.

    Raises:
        WrongAnswersError: more does.
    """
    expected = reference.areas[places]
    decided_otherwise = float(((measured.areas == SHUT) != (expected == SHUT)).mean())
    if decided_otherwise > mismatch:
        raise WrongAnswersError(f"the gate decides otherwise in {decided_otherwise:.1%} of the slices")
    both = (measured.areas != SHUT) & (expected != SHUT)
    if measured.masks is None or reference.masks is None:
        raise WrongAnswersError("there are no masks to compare")
    wrong = measured.masks[both] ^ reference.masks[places][both]
    apart = np.unpackbits(wrong).sum() / max(1, np.maximum(expected[both], SMALLEST_AREA).sum())
    if apart > mismatch:
        raise WrongAnswersError(f"masks differ by {apart:.1%} of their pixels")
