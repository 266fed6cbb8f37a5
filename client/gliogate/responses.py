"""What a server answers, held against the wire contract before anybody believes it."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final, NoReturn

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from gliogate.contract import LARGEST, Tensor
from gliogate.errors import InvalidResponseError

_STORED_AS: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.uint8),
    "FP32": np.dtype(np.float32),
    "UINT8": np.dtype(np.uint8),
}


def read_tensors(
    response: bytes,
    asked: Sequence[Tensor],
    optional: Sequence[Tensor] = (),
    *,
    url: str,
    request_id: str,
    slices: int = 1,
) -> dict[str, NDArray[Any]]:
    """Reads the tensors of an answer, by name; their first dimension is that of the slices.

    Args:
        response: a ModelInferResponse, serialized.
        asked: what the request asked for, as it is of one slice; all of it has values from 0 to 1, or `LARGEST`.
        slices: how many were to be answered.
        optional: what is read where it is there.
        url: of the server, as errors say it.
        request_id: of the request.

    Raises:
        InvalidResponseError: the answer breaks the contract; says where, what was found and what is expected.
    """

    def refuse(found: object, expected: object) -> NoReturn:
        raise invalid_response(f"{found}, expected {expected}", url=url, request_id=request_id)

    try:
        message = service_pb2.ModelInferResponse.FromString(response)
    except DecodeError:
        refuse(f"{len(response)} bytes that nothing can be read from", "a ModelInferResponse")
    outputs, contents = message.outputs, message.raw_output_contents
    if len(contents) != len(outputs):
        refuse(f"{len(contents)} raw contents of {len(outputs)} outputs", "one of each")
    found = {output.name: (output, content) for output, content in zip(outputs, contents, strict=True)}
    # What nobody asked for is passed over.
    if len(outputs) != len(found) or not found.keys() >= {tensor.name for tensor in asked}:
        names = ", ".join(sorted(output.name for output in outputs))
        refuse(f"the outputs {names or 'none'}", ", ".join(sorted(tensor.name for tensor in asked)))
    tensors = {}
    for name, dtype, of_slice in (*asked, *(tensor for tensor in optional if tensor.name in found)):
        output, content = found[name]
        shape = [slices, *of_slice]
        if output.datatype != dtype or output.shape != shape:
            refuse(f"{name} is {output.datatype or 'of no type'} {[*output.shape]}", f"{dtype} {shape}")
        stored = _STORED_AS[dtype]
        if len(content) != prod(shape) * stored.itemsize:
            refuse(f"{name} has {len(content)} bytes", prod(shape) * stored.itemsize)
        values = np.frombuffer(content, stored).reshape(shape)
        least, most = 0 if stored.kind == "u" else values.min(), values.max()
        limit = LARGEST.get(name, 1)
        if not 0 <= least <= most <= limit:  # NaN is the least of all and the most, and in no order.
            refuse(f"{name} has values from {values.min():g} to {most:g}", f"0 to {limit:g}")
        tensors[name] = values.view(bool) if dtype == "BOOL" else values
    return tensors


def invalid_response(details: str, *, url: str, request_id: str = "") -> InvalidResponseError:
    """The error of an answer that makes no sense."""
    return InvalidResponseError(
        f"the server at {url} answered with what makes no sense: {details}; does it serve gliogate's models, and what "
        "does its log say?",
        url=url,
        request_id=request_id,
        status="OK",
    )
