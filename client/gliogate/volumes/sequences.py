"""The three MRI sequences that a slice is made of, and which of them a file or series is."""

import re
from collections.abc import Mapping
from typing import Final, Literal, TypeVar

from gliogate.contract import CHANNELS
from gliogate.errors import ImageError

Sequence3 = Literal["pre", "flair", "post"]
"""Short names of `contract.CHANNELS`, as the arguments of `read_volume` use them."""

SEQUENCES: Final[tuple[Sequence3, ...]] = ("pre", "flair", "post")
CHANNEL_OF: Final[Mapping[Sequence3, str]] = dict(zip(SEQUENCES, CHANNELS, strict=True))

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
# `sub-01` is how BIDS names a subject, not a subtraction.
_DERIVED: Final = re.compile(rf"{_START}(sub(?!-)|subtraction|adc|dwi|map|mask|seg|label|localizer|scout|mip){_END}")


def recognise(description: str, *, contrast_agent: bool = False) -> Sequence3 | None:
    """Tells a sequence by its description; None where that would be a guess.

    Args:
        description: a series description or a file's name.
        contrast_agent: whether the source says that a contrast agent was given.
    """
    text = description.casefold()
    if _DERIVED.search(text):
        return None
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


def pick(candidates: Mapping[Candidate, Sequence3 | None], *, where: str, ask: str) -> dict[Sequence3, Candidate]:
    """Picks one candidate for each sequence out of what was recognised.

    Args:
        candidates: files or series, as text they describe themselves, and the sequence that each was told to be.
        where: they are from, for the error.
        ask: how to choose, for the error.

    Returns:
        FLAIR's candidate, and those of the other sequences that are there. A single candidate is FLAIR, unless it was
        recognised as another sequence.

    Raises:
        ImageError: two candidates are the same sequence, or none is FLAIR.
    """
    listed = "; ".join(f"{candidate} ({kind or 'not recognised'})" for candidate, kind in candidates.items())
    if len(candidates) == 1:
        [(only, kind)] = candidates.items()
        if kind in (None, "flair"):
            return {"flair": only}
    picked: dict[Sequence3, Candidate] = {}
    for candidate, kind in candidates.items():
        if kind in picked:
            raise ImageError(f"{where}: more than one {kind} among {listed}: {ask}")
        if kind is not None:
            picked[kind] = candidate
    if "flair" not in picked:
        raise ImageError(f"{where}: no FLAIR recognised among {listed}: {ask}")
    return picked
