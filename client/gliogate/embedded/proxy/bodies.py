"""Bodies of inference over HTTP: decompressed within bounds, refused where Triton would take them for something else.

Triton 2.51 ends on JSON that is nested deeply, takes a number beyond its tensor's type for another one, and says that
too little data is its own fault.
"""

from __future__ import annotations

import json
import math
import zlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NoReturn

from .settings import MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

BODY_BYTES: Final = MESSAGE_BYTES
"""The most that a body may have, decompressed."""
JSON_BYTES: Final = 32 * 2**20
"""The most of it that may be JSON, which takes much more memory read than written. A pixel is up to four characters, so
that the most slices that the gate takes are 24 MiB."""
DEPTH: Final = 16
"""How deep JSON may be nested; a batch of slices is 4 deep in its tensor."""
_TOO_DEEP: Final = "the body is no JSON that can be read: it is nested too deeply"

_INTEGERS: Final = {
    f"{sign}INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if not sign else (0, 2**bits - 1)
    for bits in (8, 16, 32, 64)
    for sign in ("", "U")
}
_FLOATS: Final = {"FP16": 65504.0, "FP32": 3.4028234663852886e38, "FP64": math.inf}


class BodyError(ValueError):
    """A body is refused; `status` is HTTP's."""

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


def decompressed(body: bytes, encoding: str) -> bytes:
    """Undoes a `Content-Encoding`.

    Raises:
        BodyError: it is an unknown one, the body is none of its kind, or becomes too large.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise BodyError(
            f"Content-Encoding is {encoding!r}, expected gzip or deflate", HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        )
    inflater = zlib.decompressobj(wbits=47)  # Either, by its first bytes.
    try:
        found = inflater.decompress(body, BODY_BYTES + 1)
    except zlib.error as error:
        raise BodyError(f"the body is no {encoding}: {error}") from None
    if len(found) > BODY_BYTES:
        raise BodyError(f"the body decompresses to more than {BODY_BYTES} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if not inflater.eof:
        raise BodyError(f"the body ends in the middle of its {encoding}")
    return found


def check(body: bytes, header_length: str) -> None:
    """Refuses what is no request of KServe's, as far as Triton would not refuse it by itself.

    Args:
        body: decompressed.
        header_length: how much of it is JSON, the rest being tensors in binary; empty for all.

    Raises:
        BodyError: says what is wrong.
    """
    if header_length and not (
        header_length.isascii() and header_length.isdecimal() and int(header_length) <= len(body)
    ):
        raise BodyError(f"Inference-Header-Content-Length is {header_length!r}, and the body has {len(body)} bytes")
    text = body[: int(header_length)] if header_length else body
    if len(text) > JSON_BYTES:
        raise BodyError(
            f"the body has {len(text)} bytes of JSON, more than {JSON_BYTES}: send tensors as binary data",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    request = _read(text)
    if not isinstance(request, dict):
        raise BodyError("the body is no JSON object")
    inputs = request.get("inputs", [])
    if not isinstance(inputs, list) or not all(isinstance(each, dict) for each in inputs):
        raise BodyError("'inputs' is no list of objects")
    for each in inputs:
        data = each.pop("data", None)
        if data is not None:
            _check_data(f"input {each.get('name')!r}", str(each.get("datatype")), each.get("shape"), data)
    _check_numbers(request)


def _read(text: bytes) -> Any:
    try:
        value = json.loads(text.decode(), parse_constant=_refuse_constant, object_pairs_hook=_without_duplicates)
    except BodyError:
        raise
    except RecursionError:
        raise BodyError(_TOO_DEEP) from None
    except ValueError as error:
        raise BodyError(f"the body is no JSON: {error}") from None
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH):
        level = [inner for each in level if isinstance(each, (list, dict)) for inner in _inside(each)]
        if not level:
            return
    raise BodyError(_TOO_DEEP)


def _inside(value: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return value if isinstance(value, list) else value.values()


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of names that stand there twice Triton takes the first, and Python the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BodyError("the body has a name twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise BodyError(f"the body is no JSON: there is no {name} in it")


def _check_data(name: str, datatype: str, shape: Any, data: Any) -> None:
    values = [data]
    while any(isinstance(each, list) for each in values):
        values = [inner for each in values for inner in (each if isinstance(each, list) else [each])]
    if not isinstance(shape, list) or len(shape) > DEPTH or not all(_is_size(size) for size in shape):
        raise BodyError(f"{name}: its shape is no list of integers from 0, {DEPTH} of them at most")
    if len(values) != math.prod(shape):
        raise BodyError(f"{name}: its data has {len(values)} values, and its shape {math.prod(shape)}")
    kinds = set(map(type, values))
    if datatype in _INTEGERS:
        least, most = _INTEGERS[datatype]
        if values and (kinds != {int} or min(values) < least or max(values) > most):
            raise BodyError(f"{name}: its data has what is no {datatype}, expected integers, {least} to {most}")
    elif datatype in _FLOATS:
        most_float = _FLOATS[datatype]
        if values and (not kinds <= {int, float} or not all(_is_within(each, most_float) for each in values)):
            raise BodyError(f"{name}: its data has what is no {datatype}")
    elif datatype == "BOOL" and not kinds <= {bool}:
        raise BodyError(f"{name}: its data has what is no BOOL, expected true and false")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_within(value: float, most: float) -> bool:
    try:
        return math.isfinite(value) and abs(float(value)) <= most
    except OverflowError:
        return False


def _check_numbers(request: Any) -> None:
    """Refuses integers that no field of a request can hold."""
    left = [request]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise BodyError(f"the body has the number {str(value)[:20]}…, beyond 64 bits")
        elif isinstance(value, float) and not math.isfinite(value):
            raise BodyError("the body has a number beyond a double's")
