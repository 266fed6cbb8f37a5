"""The three MRI sequences that a slice is made of, and which of them a file or series is."""

import re
from collections.abc import Mapping
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from gliogate.contract import CHANNELS
from gliogate.errors import ImageError

Sequence3 = Literal["pre", "flair", "post"]
"""Short names of `contract.CHANNELS`, as the arguments of `read_volume` use them."""

SEQUENCES: Final[tuple[Sequence3, ...]] = ("pre", "flair", "post")
CHANNEL_OF: Final[Mapping[Sequence3, str]] = dict(zip(SEQUENCES, CHANNELS, strict=True))

Kind = Sequence3 | Literal["derived"] | None
"""What a file or series is by its description: a sequence, something derived from one or no picture of the head for the
networks (a mask, a map, a localizer), or not recognised."""

Candidate = TypeVar("Candidate")

# What stands between letters of a name counts as a boundary: `t1_post`, `AX T1+C`, `BraTS-001-t1c`.
_START, _END = r"(?<![a-z0-9])", r"(?![a-z0-9])"
_T1: Final = re.compile(rf"{_START}(t1|t1[nw]|t1[cg][ed]?|t1gad|mp-?rage|bravo|spgr){_END}")
_FLAIR: Final = re.compile(rf"flair|{_START}(t2f|tirm|dark.?fluid){_END}")
_AGENT: Final = r"(contrast|gad(o\w*)?|gd|km|mdc|ce|c)"
_BEFORE: Final = re.compile(rf"{_START}((pre|w/?o|without|non?)[ _-]*{_AGENT}|pre|w/?o|without|nativ\w*|t1n){_END}")
_AFTER: Final = re.compile(
    rf"{_START}(post\w*|t1(c|ce|gd|gad)|contrast|gad(o\w*)?|gd|km|mdc|ce|c\+){_END}|\+ ?{_AGENT}{_END}"
)
# `sub-01` is how BIDS names a subject, not a subtraction; others write `sub_01`.
_DERIVED: Final = re.compile(
    rf"{_START}(sub(?!-|[ _]?\d)|subtraction|adc|dwi|map|mask|seg|label|locali[sz]er|scout|mip){_END}"
)


def recognise(description: str, *, contrast_agent: bool = False) -> Kind:
    """Tells a sequence, or what is derived from one, by its description; None where that would be a guess.

    Args:
        description: a series description or a file's name.
        contrast_agent: whether the source says that a contrast agent was given.
    """
    text = description.casefold()
    if _DERIVED.search(text):
        return "derived"
    is_t1 = bool(_T1.search(text))
    if _FLAIR.search(text):
        return None if is_t1 else "flair"  # A "T1 FLAIR" is weighted otherwise than what the networks know as FLAIR.
    if not is_t1:
        return None
    rest, before = _BEFORE.subn(" ", text)
    after = contrast_agent or bool(_AFTER.search(rest))
    if after and before:
        return None
    return "post" if after else "pre"


class Picked(NamedTuple, Generic[Candidate]):
    """What was picked.

    Attributes:
        sequences: FLAIR's candidate, and those of the other sequences that are there.
        notes: what was taken without having been recognised.
    """

    sequences: dict[Sequence3, Candidate]
    notes: tuple[str, ...] = ()


def pick(candidates: Mapping[Candidate, Kind], *, where: str, ask: str) -> Picked[Candidate]:
    """Picks one candidate for each sequence out of what was recognised.

    Args:
        candidates: files or series, as text they describe themselves, and what each was told to be.
        where: they are from, for the error.
        ask: how to choose, for the error.

    Returns:
        The candidates. A single one is FLAIR, unless it was recognised as something else.

    Raises:
        ImageError: two candidates are the same sequence, or none is FLAIR.
    """
    listed = "; ".join(f"{candidate} ({kind or 'not recognised'})" for candidate, kind in candidates.items())
    if len(candidates) == 1:
        [(only, kind)] = candidates.items()
        if kind is None:
            return Picked({"flair": only}, (f"{where}: taken for FLAIR, for want of others; its name does not say so",))
    picked: dict[Sequence3, Candidate] = {}
    for candidate, kind in candidates.items():
        if kind is None or kind == "derived":
            continue
        if kind in picked:
            raise ImageError(f"{where}: more than one {kind} among {listed}: {ask}")
        picked[kind] = candidate
    if "flair" not in picked:
        raise ImageError(f"{where}: no FLAIR recognised among {listed}: {ask}")
    return Picked(picked)
