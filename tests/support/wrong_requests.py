"""Requests that break the wire contract, in the ways that anybody has thought of, drawn by chance.

Each begins as a right one about a slice, and is then spoilt. Some are answered all the same, as Triton sees fit: what
counts is that each gets an answer, and that nobody else's request suffers.
"""

import json
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from random import Random
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from gliogate import contract

Request = service_pb2.ModelInferRequest
Kind = Callable[[Random, Request], None]

INFER = "/inference.GRPCInferenceService/ModelInfer"
ROW_BYTES = 256 * 256 * 3
FIRST_DIMS = (
    *(0, -1, 2, 33, 256, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**32 + 33, 2**40, 2**62, 2**63 - 1),
    *(-(2**31), -(2**32), -(2**32) + 1, -(2**40), -(2**63), -(2**63) + 1),
)
TEXTS = (
    *(
        "",
        "auto",
        "open",
        "0.5",
        "nan",
        "1e999",
        "ä" * 40,
        "脑",
        "\U0001f9e0",
        "\x00",
        "a\x00b",
        "\n\r\t",
        "'\"\\",
        "{}",
    ),
    *("${jndi:x}", "%s%n", "../../etc", "x" * 100_000),
)
PARAMETERS = (
    *(contract.DETECTION_THRESHOLD, contract.MASK_THRESHOLD, contract.GATE),
    *("priority", "timeout", "sequence_id", "sequence_start", "sequence_end", "binary_data", "binary_data_output"),
    *("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "classification"),
    *("triton_enable_empty_final_response", "triton_final_response", "triton_x", "treshold", "", "ä", "x" * 5000),
)
INTEGERS = (*FIRST_DIMS, 1, 3, 5_000_000)
FLOATS = (0.5, -1.0, 1.5, 1e308, -0.0, 5e-324, float("nan"), float("inf"), float("-inf"))
TYPES = ("", "uint8", "UINT16", "INT8", "INT64", "FP16", "FP32", "FP64", "BF16", "BOOL", "BYTES", "JSON", "ä")
CONTENTS = (
    *("bool_contents", "int_contents", "int64_contents", "uint_contents", "uint64_contents"),
    *("fp32_contents", "fp64_contents"),
)


def right() -> Request:
    """A request with nothing wrong: whether a black slice shows tumor."""
    request = Request(model_name=contract.ENSEMBLE.name)
    request.inputs.add(name=contract.IMAGE.name, datatype=contract.IMAGE.dtype, shape=[1, *contract.IMAGE.shape])
    request.outputs.add(name=contract.TUMOR_PROBABILITY.name)
    request.raw_input_contents.append(bytes(ROW_BYTES))
    return request


def generate(random: Random) -> Request:
    """A request that is wrong in one way, or in up to three."""
    request = right()
    for kind in random.sample([*KINDS.values()], random.choice((1, 1, 1, 2, 3))):
        kind(random, request)
    return request


def generate_bytes(random: Random) -> bytes:
    """The same as it goes over the wire, where it may be no message: text that is not UTF-8, bits that fell."""
    content = generate(random).SerializeToString()
    if random.random() < 0.9:
        return content
    spoilt = bytearray(content)
    # What describes the request stands before what it is about.
    for _ in range(random.randint(1, 3)):
        spoilt[random.randrange(min(len(spoilt), 120))] = random.choice((0, 0x7F, 0x80, 0xFF, random.randrange(256)))
    return bytes(spoilt[: random.choice((len(spoilt), len(spoilt), random.randrange(len(spoilt))))])


def unanswered(url: str, contents: Sequence[bytes], *, callers: int = 8, seconds: float = 30) -> list[str]:
    """Sends requests, several at a time; returns those that got no answer, readable, and what was told instead."""

    def send(content: bytes) -> tuple[grpc.StatusCode, str]:
        try:
            infer(content, timeout=seconds)
        except grpc.RpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, ""

    with grpc.insecure_channel(url) as channel, ThreadPoolExecutor(callers) as pool:
        infer = channel.unary_unary(INFER)
        answers = list(pool.map(send, contents))
    # Some ask to wait for microseconds at most.
    told = {(grpc.StatusCode.UNAVAILABLE, "Request timeout expired")}
    lost = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    return [
        f"{code}, {details}: {readable(content)}"
        for content, (code, details) in zip(contents, answers, strict=True)
        if code in lost and (code, details) not in told
    ]


def over_http(request: Request) -> tuple[str, dict[str, str], bytes]:
    """The same for Triton's HTTP, with its tensors in binary: the path, headers and the body."""
    inputs = [
        {"name": each.name, "datatype": each.datatype, "shape": [*each.shape], "parameters": {"binary_data_size": size}}
        for each, size in zip_longest(request.inputs, map(len, request.raw_input_contents), fillvalue=0)
        if each
    ]
    parameters = {
        name: getattr(each, each.WhichOneof("parameter_choice") or "bool_param")
        for name, each in request.parameters.items()
    }
    outputs = [{"name": each.name} for each in request.outputs]
    head = {"id": request.id, "inputs": inputs, "outputs": outputs, "parameters": parameters}
    text = json.dumps(head).encode()
    path = f"/v2/models/{quote(request.model_name, safe='')}/infer"
    return path, {"Inference-Header-Content-Length": str(len(text))}, text + b"".join(request.raw_input_contents)


def readable(content: bytes) -> str:
    """What a request on the wire says, shortened, for a message."""
    try:
        request = Request.FromString(content)
    except DecodeError:
        return f"{len(content)} bytes that are no request: {content[:120]!r}"
    lengths = [len(raw) for raw in request.raw_input_contents]
    del request.raw_input_contents[:]
    return f"{str(request)[:2000]} with {lengths} bytes"


def _first_dimension(random: Random, request: Request) -> None:
    drawn = random.choice((*FIRST_DIMS, random.randrange(-(2**63), 2**63), random.randrange(-(2**31), 2**31) << 32))
    for image in request.inputs:
        image.shape[:1] = [drawn]


def _shape(random: Random, request: Request) -> None:
    any_size = random.choice((0, -1, 1, 255, 2**32, 2**62, random.randrange(-(2**63), 2**63)))
    shapes = (
        [],
        [1],
        [ROW_BYTES],
        [1, ROW_BYTES],
        [256, 256, 3],
        [1, 3, 256, 256],
        [1, 1, 256, 256, 3],
        [0, 1, 256, 256, 3],
        [1, 256, 256, 3, 1],
        [1, 256, any_size, 3],
        [1, any_size, any_size, any_size],
        [any_size, any_size, 256, 3],
        # Products beyond 64 bits come back as small numbers.
        [1, 2**32, 2**32, 3],
        [1, 256 + 2**56, 256, 3],
        [1] * random.choice((7, 40, 1000)),
    )
    for image in request.inputs:
        image.shape[:] = random.choice(shapes)


def _byte_count(random: Random, request: Request) -> None:
    count = random.choice((0, 1, ROW_BYTES - 1, ROW_BYTES + 1, 2 * ROW_BYTES, 4 * ROW_BYTES, 33 * ROW_BYTES))
    request.raw_input_contents[:] = [bytes(count)]


def _content_count(random: Random, request: Request) -> None:
    request.raw_input_contents[:] = [bytes(ROW_BYTES)] * random.choice((0, 2, 5))


def _datatype(random: Random, request: Request) -> None:
    for image in request.inputs:
        image.datatype = random.choice(TYPES)


def _bytes_elements(random: Random, request: Request) -> None:
    for image in request.inputs:
        image.datatype = "BYTES"
        image.shape[:] = [1, 1]
    length = random.choice((0, 3, 2**31, 2**32 - 1))
    request.raw_input_contents[:] = [struct.pack("<I", length) + b"abc"]


def _typed_contents(random: Random, request: Request) -> None:
    if random.random() < 0.7:
        del request.raw_input_contents[:]
    for image in request.inputs:
        name = random.choice((*CONTENTS, "bytes_contents"))
        element = b"\xff" if name == "bytes_contents" else random.choice((0, 1))
        getattr(image.contents, name).extend([element] * random.choice((0, 1, 1000, ROW_BYTES)))


def _input_count(random: Random, request: Request) -> None:
    names = random.choice(([], ["image", "image"], ["image", "mask"], ["mask"], ["mask", "image"], ["image"] * 50))
    image = service_pb2.ModelInferRequest.InferInputTensor()
    image.CopyFrom(request.inputs[0]) if request.inputs else None
    del request.inputs[:]
    for name in names:
        request.inputs.append(image)
        request.inputs[-1].name = name
    request.raw_input_contents[:] = [bytes(ROW_BYTES)] * random.choice((len(names), 1))


def _names(random: Random, request: Request) -> None:
    text = random.choice(TEXTS)
    match random.choice(("input", "output", "model", "version", "id")):
        case "input":
            for image in request.inputs:
                image.name = text
        case "output":
            for output in request.outputs:
                output.name = text
        case "model":
            request.model_name = random.choice((text, "ensemble", "tumor_detector", "tumor_segmenter"))
        case "version":
            request.model_version = random.choice((text, "0", "-1", "2", "99999", "18446744073709551616", "1.0"))
        case "id":
            request.id = text


def _to_a_network(random: Random, request: Request) -> None:
    """Past the gate, whose own questions the networks must go on answering."""
    model = random.choice((contract.DETECTOR, contract.SEGMENTER))
    request.model_name = model.name
    for output in request.outputs:
        output.name = model.outputs[0].name
    random.choice((_first_dimension, _shape, _byte_count, _datatype))(random, request)


def _outputs(random: Random, request: Request) -> None:
    names = [tensor.name for tensor in contract.ENSEMBLE.outputs]
    del request.outputs[:]
    for name in random.choice((["mask"], names * 2, [*names, "mask"], ["x" * 10_000], names[:1] * 300)):
        request.outputs.add(name=name)


def _output_parameters(random: Random, request: Request) -> None:
    for output in request.outputs:
        _set(random, output.parameters, random.choice(PARAMETERS))


def _input_parameters(random: Random, request: Request) -> None:
    for image in request.inputs:
        _set(random, image.parameters, random.choice(PARAMETERS))


def _shared_memory(random: Random, request: Request) -> None:
    """Regions that nobody has registered."""
    for tensor in random.choice((request.inputs, request.outputs)):
        tensor.parameters["shared_memory_region"].string_param = random.choice(TEXTS)
        tensor.parameters["shared_memory_byte_size"].int64_param = random.choice((ROW_BYTES, *INTEGERS))
        if random.random() < 0.5:
            tensor.parameters["shared_memory_offset"].int64_param = random.choice(INTEGERS)
    if random.random() < 0.5:
        del request.raw_input_contents[:]


def _parameters(random: Random, request: Request) -> None:
    for _ in range(random.choice((1, 1, 2, 5))):
        _set(random, request.parameters, random.choice(PARAMETERS))


def _many_parameters(random: Random, request: Request) -> None:
    for number in range(random.choice((100, 5000))):
        request.parameters[f"p{number}"].int64_param = number


def _long_parameter(random: Random, request: Request) -> None:
    name = random.choice((contract.GATE, contract.MASK_THRESHOLD, "priority", "sequence_id", "x"))
    request.parameters[name].string_param = random.choice("x1\n脑") * random.choice((10_000, 1_000_000))


def _set(random: Random, parameters: Any, name: str) -> None:
    parameter = parameters[name]
    match random.choice(("bool", "int64", "string", "double", "uint64", "none")):
        case "bool":
            parameter.bool_param = random.random() < 0.5
        case "int64":
            parameter.int64_param = random.choice(INTEGERS)
        case "string":
            parameter.string_param = random.choice(TEXTS)
        case "double":
            parameter.double_param = random.choice(FLOATS)
        case "uint64":
            parameter.uint64_param = random.choice((0, 1, 3, 2**32, 2**63, 2**64 - 1))
        case "none":
            pass


KINDS: dict[str, Kind] = {
    function.__name__.strip("_"): function
    for function in (
        *(_first_dimension, _shape, _byte_count, _content_count, _datatype, _bytes_elements, _typed_contents),
        *(_input_count, _names, _to_a_network, _outputs, _output_parameters, _input_parameters, _shared_memory),
        *(_parameters, _many_parameters, _long_parameter),
    )
}
"""The ways in which a request can be wrong, by name."""
