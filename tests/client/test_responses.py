"""An answer that breaks the wire contract is told as such, by both clients and by every way of asking."""

import asyncio
from concurrent import futures
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from support.troubled_triton import troubled_triton

from gliogate import AsyncClient, Client, InvalidResponseError
from gliogate.cli import main
from gliogate.connection import METHOD, SERVICE
from gliogate.contract import MASK_PROBABILITY, SEGMENTED, THRESHOLDS, TUMOR_MASK, TUMOR_PROBABILITY

SLICE = np.zeros((256, 256, 3), np.uint8)
HEAD = np.zeros((1, 256, 256), np.uint8)


def analyze(client):
    return client.analyze(SLICE, return_mask_probability=True)


def analyze_volume(client):
    return client.analyze_volume(HEAD, return_mask_probability=True)


def analyze_many(client):
    return list(client.analyze_many([SLICE] * 2, return_mask_probability=True))


def detect(client):
    return client.detect(SLICE)


def server_info(client):
    return client.server_info()


async def take_all(analyses):
    return [each async for each in analyses]


def sync(ask):
    def run(url):
        with Client(url) as client:
            return ask(client)

    return pytest.param(run, id=f"Client.{ask.__name__}")


def asynchronous(ask):
    def run(url):
        async def go():
            async with AsyncClient(url) as client:
                if ask is analyze_many:
                    return await take_all(client.analyze_many([SLICE] * 2, return_mask_probability=True))
                return await ask(client)

        return asyncio.run(go())

    return pytest.param(run, id=f"AsyncClient.{ask.__name__}")


def both(*asks):
    return [kind(ask) for ask in asks for kind in (sync, asynchronous)]


@pytest.fixture(scope="module")
def server():
    with troubled_triton() as triton:
        yield triton


@pytest.fixture
def triton(server):
    yield server
    server.spoil, server.versions = lambda response: None, ["1"]  # noqa: ARG005


def place_of(response, tensor):
    return [output.name for output in response.outputs].index(tensor.name)


def without(tensor):
    def spoil(response):
        place = place_of(response, tensor)
        del response.outputs[place], response.raw_output_contents[place]

    return spoil


def described(tensor, **fields):
    def spoil(response):
        output = response.outputs[place_of(response, tensor)]
        for name, value in fields.items():
            output.ClearField(name)
            output.MergeFrom(type(output)(**{name: value}))

    return spoil


def holding(tensor, content):
    def spoil(response):
        response.raw_output_contents[place_of(response, tensor)] = bytes(content)

    return spoil


def numbers(*values):
    return np.array(values, np.float32).tobytes()


def twice(response):
    response.outputs.append(response.outputs[0])
    response.raw_output_contents.append(response.raw_output_contents[0])


def without_contents(response):
    del response.raw_output_contents[:]


def without_anything(response):
    response.Clear()


FAULTS = [
    pytest.param(without(TUMOR_PROBABILITY), "outputs .*expected .*tumor_probability", id="an output is missing"),
    pytest.param(without_anything, "outputs none, expected", id="all are missing"),
    pytest.param(twice, "outputs .*, expected", id="an output comes twice"),
    pytest.param(without_contents, "0 raw contents of . outputs, expected one of each", id="outputs without contents"),
    pytest.param(
        lambda response: response.raw_output_contents.append(b"more"), "raw contents", id="contents without output"
    ),
    pytest.param(described(TUMOR_MASK, datatype="INT32"), r"tumor_mask is INT32 .*expected UINT8", id="another type"),
    pytest.param(described(TUMOR_MASK, datatype=""), r"tumor_mask is .*expected UINT8", id="no type"),
    pytest.param(
        described(TUMOR_MASK, shape=[1, 128, 512]), r"\[1, 128, 512\], expected .*\[1, 256, 256\]", id="another shape"
    ),
    pytest.param(
        described(SEGMENTED, shape=[2, 1]), r"segmented is BOOL \[2, 1\], expected BOOL \[1, 1\]", id="another batch"
    ),
    pytest.param(holding(TUMOR_MASK, b""), "tumor_mask has 0 bytes, expected 65536", id="no bytes"),
    pytest.param(holding(TUMOR_MASK, bytes(65537)), "tumor_mask has 65537 bytes, expected 65536", id="too many bytes"),
    pytest.param(holding(TUMOR_MASK, bytes([2]) * 65536), "tumor_mask .*from 2 to 2, expected 0 to 1", id="no mask"),
    pytest.param(holding(SEGMENTED, b"\x07"), "segmented .*7, expected 0 to 1", id="neither true nor false"),
    pytest.param(holding(TUMOR_PROBABILITY, numbers(np.nan)), "tumor_probability .*nan", id="NaN"),
    pytest.param(holding(TUMOR_PROBABILITY, numbers(1.25)), "tumor_probability .*1.25, expected 0 to 1", id="above 1"),
    pytest.param(holding(TUMOR_PROBABILITY, numbers(-np.inf)), "tumor_probability .*-inf", id="below 0"),
    pytest.param(
        holding(MASK_PROBABILITY, numbers(*[0.5] * 65535, np.nan)), "mask_probability .*nan", id="NaN in one pixel"
    ),
]


@pytest.mark.parametrize(("spoil", "told"), FAULTS)
@pytest.mark.parametrize("ask", both(analyze, analyze_many, analyze_volume))
def test_an_analysis_that_makes_no_sense(triton, ask, spoil, told):
    triton.spoil = spoil

    with pytest.raises(InvalidResponseError, match=told) as caught:
        ask(triton.url)

    assert triton.url in str(caught.value)
    assert caught.value.url == triton.url
    assert caught.value.request_id
    assert not caught.value.may_retry


@pytest.mark.parametrize("kind", [sync, asynchronous])
def test_a_head_of_which_slices_are_missing_makes_no_sense(triton, kind):
    [ask] = kind(lambda client: client.analyze_volume(np.repeat(HEAD, 3, axis=0))).values
    triton.spoil = described(TUMOR_PROBABILITY, shape=[2, 1])

    with pytest.raises(InvalidResponseError, match=r"tumor_probability is FP32 \[2, 1\], expected FP32 \[3, 1\]"):
        ask(triton.url)


@pytest.mark.parametrize("ask", both(analyze, detect))
def test_an_output_that_nobody_asked_for_is_passed_over(triton, ask):
    def with_more(response):
        response.outputs.add(name="confidence", datatype="FP32", shape=[1, 1])
        response.raw_output_contents.append(numbers(3))

    triton.spoil = with_more

    assert 0 <= ask(triton.url).tumor_probability <= 1


@pytest.mark.parametrize("ask", both(detect))
def test_a_detection_that_makes_no_sense(triton, ask):
    triton.spoil = holding(TUMOR_PROBABILITY, b"")

    with pytest.raises(InvalidResponseError, match="tumor_probability has 0 bytes, expected 4"):
        ask(triton.url)


@pytest.mark.parametrize("ask", both(server_info))
def test_what_a_server_says_of_itself_that_makes_no_sense(triton, ask):
    assert ask(triton.url).operating_point.detection_threshold == 0.5
    triton.versions = ["1", "newest"]
    with pytest.raises(InvalidResponseError, match="version 'newest', expected a number"):
        ask(triton.url)
    triton.spoil = without(THRESHOLDS)
    with pytest.raises(InvalidResponseError, match="outputs none, expected thresholds"):
        ask(triton.url)


def test_among_many_it_costs_only_its_own_picture(triton):
    answers = iter([lambda response: None, holding(TUMOR_MASK, b"")])  # noqa: ARG005
    triton.spoil = lambda response: next(answers)(response)

    with Client(triton.url) as client:
        first, second = client.analyze_many([SLICE] * 2, in_flight=1, on_error="return")

    assert first.verdict == "no tumor"
    assert isinstance(second, InvalidResponseError)


@contextmanager
def babbling():
    """A server whose answers, to whatever it is asked, are no messages of Triton's; yields its address."""
    methods = (METHOD, "ServerLive", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig")
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"\xff" * 9)  # noqa: ARG005
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, dict.fromkeys(methods, handler)),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


@pytest.mark.parametrize("ask", both(analyze, server_info))
def test_bytes_that_nothing_can_be_read_from(ask):
    with babbling() as url, pytest.raises(InvalidResponseError, match=r"9 bytes .*expected a ModelInferResponse"):
        ask(url)


def test_a_server_whose_word_about_itself_cannot_be_read_is_not_ready():
    async def is_ready(url):
        async with AsyncClient(url) as client:
            return await client.is_ready()

    with babbling() as url:
        assert asyncio.run(is_ready(url)) is False
        with Client(url) as client:
            assert client.is_ready() is False


@pytest.mark.parametrize("command", ["analyze", "doctor"])
def test_on_the_command_line_it_is_one_line_and_no_traceback(triton, command, tmp_path, capsys):
    triton.spoil = lambda response: [output.ClearField("shape") for output in response.outputs]
    np.save(tmp_path / "slice.npy", SLICE)

    assert main([command, *[str(tmp_path)] * (command == "analyze"), "--url", triton.url]) == 1

    [told] = [line for line in capsys.readouterr().out.splitlines() if "makes no sense" in line]
    assert told.startswith("failed")
    assert triton.url in told
