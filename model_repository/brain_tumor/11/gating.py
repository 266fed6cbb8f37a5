"""The gate as array code: join requests into one batch, detect, segment only the slices that pass, scatter back.

Nothing here knows of Triton. Slices are UINT8 [rows, 256, 256, 3]. On a GPU the batch goes to the device once, and the
masks made of it stay there: the array module is a parameter. What is decided on, a few numbers a slice, is always
NumPy.
"""

from __future__ import annotations

import json
import math
import reprlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import ModuleType

TUMOR_PROBABILITY = "tumor_probability"
TUMOR_MASK = "tumor_mask"
MASK_PROBABILITY = "mask_probability"
SEGMENTED = "segmented"
THRESHOLDS = "thresholds"
CERTAINTY = "certainty"
RELIABILITY = "reliability"

GATE_MODES = ("auto", "always", "never")

SLICE = (256, 256, 3)
"""The shape of a slice."""

STRICT, LAX = 0.7, 0.1
"""Probabilities from which a pixel is inside a strict and a lax outline; `certainty` holds one against the other."""

UNKNOWN = (0.0,) * 5
"""The reliability of masks of which nobody measured it."""

Array = Any
"""A NumPy array, or a CuPy one on a GPU."""


class InvalidValueError(ValueError):
    """A setting is unknown, or its value is not one that it can have."""


class CancelledError(Exception):
    """Nobody waits for this request's answer any more; `begun` says whether it was being worked on by then."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__("the request was cancelled")
        self.begun = begun


def without_frames(error: Exception) -> Exception:
    """Returns the error without what it knows of where it was raised, and of the errors before it.

    In those frames are slices and masks, which would stay in memory, shared memory too, for as long as the error does.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


@dataclass(frozen=True)
class Settings:
    """What a request may choose.

    Attributes:
        detection_threshold: a slice whose tumor probability reaches this, in [0, 1], is segmented.
        mask_threshold: a pixel whose mask probability reaches this, in [0, 1], is tumor.
        gate: `auto` goes by the detection threshold; `always` and `never` segment every slice and none.
    """

    detection_threshold: float
    mask_threshold: float
    gate: str = "auto"

    @property
    def bar(self) -> float:
        """The probability that opens the gate, infinite where the probability does not matter."""
        return {"always": -math.inf, "never": math.inf}.get(self.gate, self.detection_threshold)

    def updated(self, values: Mapping[str, object]) -> Settings:
        """Returns these settings with `values` in place of some.

        Raises:
            InvalidValueError: a name is unknown, or a value is out of range; names it, what was found and expected.
        """
        return replace(self, **{name: _checked(name, value) for name, value in values.items()})


def read_operating_point(path: Path) -> Settings:
    """Reads the thresholds that requests start from.

    Raises:
        InvalidValueError: the file is not JSON, or a threshold is missing or out of range; names the file.
        OSError: the file cannot be read.
    """
    thresholds = ("detection_threshold", "mask_threshold")
    try:
        document = read_object(path.read_text(encoding="utf-8"))
        if missing := [name for name in thresholds if name not in document]:
            raise InvalidValueError(f"{' and '.join(missing)} missing")
        return Settings(**{name: _checked(name, document[name]) for name in thresholds})
    except ValueError as error:
        raise InvalidValueError(f"{path}: {error}") from error


def read_reliability(path: Path) -> tuple[float, ...]:
    """Reads what masks are worth: the least certainty, and the bounds of true volumes; `UNKNOWN` where it is not there.

    Raises:
        InvalidValueError: the file is not JSON, or a number is missing or makes no sense; names the file.
        OSError: the file cannot be read.
    """
    try:
        found = read_object(path.read_text(encoding="utf-8")).get("reliability")
        if found is None:
            return UNKNOWN
        numbers = [found["limit"], *found["certain"], *found["uncertain"]]
        if len(numbers) != len(UNKNOWN) or not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise InvalidValueError(f"reliability: expected {len(UNKNOWN)} numbers from 0, found {numbers}")
        return tuple(float(number) for number in numbers)
    except (KeyError, TypeError) as error:
        raise InvalidValueError(f"{path}: reliability: expected limit, certain and uncertain") from error
    except ValueError as error:
        raise InvalidValueError(f"{path}: {error}") from error


def read_object(text: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        InvalidValueError: it is something else; says what.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"expected a JSON object: {error}") from error
    if not isinstance(document, dict):
        raise InvalidValueError(f"expected a JSON object, found {reprlib.repr(document)}")
    return document


def slices_of(image: Array) -> Array:
    """Returns the slices [rows, 256, 256, 3] of what Triton hands over, without a copy.

    Triton counts a request's rows in 32 bits, and drops the dimension of none at all. The dimension of one row that
    `config.pbtxt` puts before each slice tells the two apart.

    Args:
        image: UINT8 [rows, 1, 256, 256, 3] of a request that has rows.

    Raises:
        InvalidValueError: it has none.
    """
    if len(image.shape) != len(SLICE) + 2:
        raise InvalidValueError(
            "tensor 'image' has a first dimension of 0, or of one that Triton takes for 0; expected the number of its "
            f"slices in the shape [slices, {', '.join(map(str, SLICE))}]"
        )
    return image[:, 0]


def _checked(name: str, value: object) -> Any:
    # A client may send any text of any length; an error is sent in a header, which has a few thousand bytes.
    if name == "gate":
        if value not in GATE_MODES:
            raise InvalidValueError(f"gate is {reprlib.repr(value)}, expected one of {', '.join(GATE_MODES)}")
        return value
    if name not in ("detection_threshold", "mask_threshold"):
        raise InvalidValueError(
            f"unknown parameter {reprlib.repr(name)}, expected detection_threshold, mask_threshold or gate"
        )
    try:
        # A bool is an int to Python, and a mistake here.
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0.0 <= number <= 1.0:
        raise InvalidValueError(f"{name} is {reprlib.repr(value)}, expected a number from 0 to 1")
    return number


@dataclass(frozen=True)
class Request:
    """One request for the gate.

    Attributes:
        images: UINT8 [rows, 256, 256, 3].
        settings: what it chose.
        outputs: the names of the outputs that it asks for; only these are computed.
        is_cancelled: whether nobody waits for the answer any more.
        is_counted: whether its slices are some of those that the tally tells of.
    """

    images: Array
    settings: Settings
    outputs: frozenset[str]
    is_cancelled: Callable[[], bool] = lambda: False
    is_counted: bool = True

    @property
    def needs_detector(self) -> bool:
        """Whether an output depends on what the detector says."""
        told = self.outputs - {THRESHOLDS, RELIABILITY}
        return TUMOR_PROBABILITY in told or (self.settings.gate == "auto" and bool(told))

    @property
    def needs_segmenter(self) -> bool:
        """Whether slices that pass are to be segmented."""
        return not self.outputs.isdisjoint((TUMOR_MASK, MASK_PROBABILITY, CERTAINTY))


@dataclass
class Tally:
    """What became of the slices of requests that were answered, and are counted.

    Attributes:
        rows: how many there are.
        opened: how many of those that a mask was asked for the segmenter was to see.
        shut: how many of them it was not.
        suspicious: how many of those opened did so by their probability, and have an empty mask.
    """

    rows: int = 0
    opened: int = 0
    shut: int = 0
    suspicious: int = 0


def grouped(rows: Sequence[int], at_once: int) -> list[range]:
    """Parts a batch's requests, in their order, into groups that are answered one after the other.

    Args:
        rows: how many slices each request has.
        at_once: how many a group has at most, if no request of it has more by itself.

    Returns:
        The requests' indices, group by group; no group is empty.
    """
    starts, sum_of_rows = [0], 0
    for index, count in enumerate(rows):
        if index > starts[-1] and sum_of_rows + count > at_once:
            starts.append(index)
            sum_of_rows = 0
        sum_of_rows += count
    return [range(start, end) for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)]


def run(
    requests: Sequence[Request],
    detect: Callable[[Array], Array],
    segment: Callable[[Array], Array],
    xp: ModuleType = np,
    tally: Tally | None = None,
    reliability: Sequence[float] = UNKNOWN,
) -> list[dict[str, Array] | Exception]:
    """Answers several requests with at most one call of each network.

    Args:
        requests: at least one; their rows are joined in this order.
        detect: slices to tumor probabilities, FP32 [rows, 1].
        segment: slices to mask probabilities, FP32 [rows, 256, 256].
        xp: the array module that the batch is worked on with, `numpy` or `cupy`.
        tally: is added to.
        reliability: see `read_reliability`; it is told as it is.

    Returns:
        For every request the outputs that it asked for, by name, or the exception that failed it: `CancelledError`, or
        whatever a network raised. A network's exception fails only the requests that needed it.
    """
    batch = _Batch(requests, xp)

    batch.drop_cancelled(begun=False)
    probability = xp.zeros((len(batch.images), 1), np.float32)
    batch.ask(detect, batch.rows_of(lambda request: request.needs_detector), answers=probability)
    if xp is not np:
        probability = xp.asnumpy(probability)

    # Compared as FP32, the type that clients see the probability in: one equal to the threshold opens the gate.
    opened = probability >= batch.rows_with([(request.settings.bar,) for request in requests])

    batch.drop_cancelled(begun=True)
    wanted = batch.rows_of(lambda request: request.needs_segmenter)
    passed = opened[:, 0] & wanted
    thresholds = batch.rows_with([(r.settings.detection_threshold, r.settings.mask_threshold) for r in requests])
    outputs = {TUMOR_PROBABILITY: probability, SEGMENTED: opened, THRESHOLDS: thresholds}
    outputs[RELIABILITY] = batch.rows_with([tuple(reliability)] * len(requests))
    if wanted.any():
        mask_probability = xp.zeros(batch.images.shape[:3], np.float32)
        batch.ask(segment, passed, answers=mask_probability)
        mask = mask_probability >= xp.asarray(thresholds[:, 1:])[:, np.newaxis]
        # A threshold of 0 is reached by pixels that nobody looked at.
        mask &= xp.asarray(passed)[:, np.newaxis, np.newaxis]
        outputs |= {TUMOR_MASK: mask.view(np.uint8), MASK_PROBABILITY: mask_probability}
        if any(CERTAINTY in request.outputs for request in requests):
            outputs[CERTAINTY] = _certainty(mask_probability, mask, xp)
    if tally is not None:
        answered = batch.rows_of(lambda request: request.is_counted)
        tally.rows += int(answered.sum())
        tally.opened += int((answered & passed).sum())
        tally.shut += int((answered & wanted & ~passed).sum())
        # Where the gate was told `always`, an empty mask is nothing odd.
        judged = np.flatnonzero(passed & batch.rows_of(lambda each: each.is_counted and each.settings.gate == "auto"))
        if judged.size:
            outlined = mask[xp.asarray(judged)].any(axis=(1, 2)).sum()
            tally.suspicious += judged.size - int(outlined)
    return [
        batch.errors.get(index) or {name: array[rows] for name, array in outputs.items() if name in request.outputs}
        for index, (request, rows) in enumerate(zip(requests, batch.slices, strict=True))
    ]


def _certainty(probability: Array, mask: Array, xp: ModuleType) -> Array:
    """Returns FP32 [rows, 1]: how well a strict outline agrees with a lax one, 0 where nothing is outlined."""
    strict = (probability >= np.float32(STRICT)).sum(axis=(1, 2))
    lax = (probability >= np.float32(LAX)).sum(axis=(1, 2))
    agreement = xp.where(mask.any(axis=(1, 2)), strict / xp.maximum(lax, 1), 0.0)
    return agreement.astype(np.float32)[:, np.newaxis]


class _Batch:
    """The joined rows of several requests, and who of them has failed.

    Attributes:
        images: UINT8 [rows, 256, 256, 3].
        slices: the rows of every request.
        errors: what failed a request, by its index.
    """

    def __init__(self, requests: Sequence[Request], xp: ModuleType) -> None:
        self._requests = requests
        self._xp = xp
        lengths = [len(request.images) for request in requests]
        ends = np.cumsum(lengths).tolist()
        self.slices = [slice(end - length, end) for length, end in zip(lengths, ends, strict=True)]
        self._owner = np.repeat(np.arange(len(requests)), lengths)
        images = [request.images for request in requests]
        # What comes from the host is joined there, so that it goes to the device in one piece.
        home = np if all(isinstance(array, np.ndarray) for array in images) else xp
        # One request alone, the common case on a quiet server, is not copied.
        joined = images[0] if len(images) == 1 else home.concatenate([home.asarray(array) for array in images])
        self.images = xp.asarray(joined)
        self.errors: dict[int, Exception] = {}

    def drop_cancelled(self, *, begun: bool) -> None:
        """Fails the requests that nobody waits for any more."""
        for index, request in enumerate(self._requests):
            if index not in self.errors and request.is_cancelled():
                self.errors[index] = CancelledError(begun=begun)

    def rows_with(self, values: Sequence[tuple[float, ...]]) -> np.ndarray:
        """Returns FP32 [rows, K]: the K values of every request, repeated for each of its rows."""
        return np.array(values, np.float32)[self._owner]

    def rows_of(self, wanted: Callable[[Request], bool]) -> np.ndarray:
        """Returns BOOL [rows]: the rows of requests that are wanted and have not failed."""
        chosen = [index not in self.errors and wanted(request) for index, request in enumerate(self._requests)]
        return np.array(chosen, bool)[self._owner]

    def ask(self, network: Callable[[Array], Array], rows: np.ndarray, *, answers: Array) -> None:
        """Asks a network about the chosen rows, and puts its answers there; if it fails, so do their requests."""
        if not rows.any():
            return
        picked = slice(None) if rows.all() else self._xp.asarray(np.flatnonzero(rows))
        try:
            answers[picked] = network(self.images[picked])
        except Exception as error:
            # Whatever it is, it belongs to these requests and to no other.
            self.errors.update(dict.fromkeys(self._owner[rows].tolist(), without_frames(error)))
