"""A head as array code: all of its slices are detected, weighed among their neighbours, and gated as a whole.

A request holds one head, or a part of it with some slices of context at its ends. It is worked on a few slices at a
time, so that other requests come to the networks in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import gating

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from .neighbours import Neighbours

MOST_SLICES = 256
"""What a request holds at most: a head of 256 mm at 1 mm. Its slices take 50 MB; masks and their probabilities, 84."""

THICKEST_MM = 100.0
"""What the distance between two slices may be at most; more is a mistake in the unit."""

CONTEXT_BEFORE = "context_before"
CONTEXT_AFTER = "context_after"
"""Request parameters: how many slices, at either end, are there for the sake of their neighbours alone."""


@dataclass(frozen=True)
class Head:
    """A request's slices.

    Attributes:
        request: about the slices that are to be answered; its images are all of the request's.
        answered: which of the images these are.
        spacing_mm: between neighbouring slices; None where the client did not say.
    """

    request: gating.Request
    answered: slice
    spacing_mm: float | None


def head_of(request: gating.Request, *, context: tuple[int, int], spacing_mm: float | None) -> Head:
    """Checks a request.

    Raises:
        InvalidValueError: it has too many slices or none to answer, or the spacing makes no sense; says which.
    """
    count = len(request.images)
    if count > MOST_SLICES:
        raise gating.InvalidValueError(
            f"tensor 'image' has {count} slices, expected at most {MOST_SLICES}: send a head of more in parts, with "
            f"{CONTEXT_BEFORE} and {CONTEXT_AFTER}"
        )
    before, after = context
    if before + after >= count:
        raise gating.InvalidValueError(
            f"tensor 'image' has {count} slices, {before} of them {CONTEXT_BEFORE} and {after} {CONTEXT_AFTER}: there "
            "is none to answer"
        )
    if spacing_mm is not None and not 0 < spacing_mm <= THICKEST_MM:
        raise gating.InvalidValueError(
            f"tensor 'slice_spacing_mm' is {spacing_mm:g}, expected above 0 and at most {THICKEST_MM:g}"
        )
    return Head(request, slice(before, count - after), spacing_mm)


def split_context(parameters: Mapping[str, object]) -> tuple[dict[str, object], tuple[int, int]]:
    """Parts a request's parameters into those of the gate, and the context at either end.

    Raises:
        InvalidValueError: the context is no number of slices.
    """
    left = dict(parameters)
    before, after = (_count(name, left.pop(name, 0)) for name in (CONTEXT_BEFORE, CONTEXT_AFTER))
    return left, (before, after)


def _count(name: str, value: object) -> int:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (0 <= number <= MOST_SLICES and number == int(number)):
        raise gating.InvalidValueError(
            f"{name} is {str(value)[:50]!r}, expected a whole number from 0 to {MOST_SLICES}"
        )
    return int(number)


def run(
    head: Head,
    detect: Callable[[gating.Array], gating.Array],
    segment: Callable[[gating.Array], gating.Array],
    neighbours: Neighbours,
    *,
    at_once: int,
    xp: ModuleType = np,
    tally: gating.Tally | None = None,
    reliability: Sequence[float] = gating.UNKNOWN,
) -> dict[str, gating.Array] | Exception:
    """Answers the slices of a head, or says what failed it; see `gating.run`.

    Args:
        head: see `Head`.
        detect: see `gating.run`; is given at most so many slices at once.
        segment: as `detect`.
        neighbours: how they are weighed.
        at_once: slices.
        xp: see `gating.run`.
        tally: see `gating.run`.
        reliability: see `gating.run`.
    """
    request = head.request

    def in_chunks(network: Callable[[gating.Array], gating.Array], images: gating.Array) -> Any:
        answers = []
        for start in range(0, len(images), at_once):
            if start and request.is_cancelled():
                raise gating.CancelledError(begun=True)
            answers.append(network(images[start : start + at_once]))
        return answers[0] if len(answers) == 1 else xp.concatenate(answers)

    def judged(_: gating.Array) -> gating.Array:
        said = in_chunks(detect, request.images)
        said = said if isinstance(said, np.ndarray) else xp.asnumpy(said)
        return xp.asarray(neighbours.judge(said, head.spacing_mm)[head.answered])

    answered = replace(request, images=request.images[head.answered])
    [outcome] = gating.run([answered], judged, lambda images: in_chunks(segment, images), xp, tally, reliability)
    return outcome
