"""The client against a real Triton. The tiny networks answer with the share of the slice that is white in FLAIR."""

import asyncio
import itertools
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.signals import signal_triton
from support.tiny_networks import FLAIR, slices
from support.waiting import settled
from tritonclient.grpc import InferenceServerClient

from gliogate import (
    Analysis,
    AsyncClient,
    BoundingBox,
    Client,
    ClientClosedError,
    DeadlineExceededError,
    ImageError,
    InvalidRequestError,
    OperatingPoint,
    ServerUnavailableError,
)
from gliogate.contract import MODELS, SEGMENTER
from gliogate.embedded import EmbeddedServer
from gliogate.runs import analyze_scans
from gliogate.scans import Scan

CLEAR, TUMOR = 0.25, 0.75
"""Shares of white on either side of the tiny repository's detection threshold, 0.5."""


@pytest.fixture(scope="module")
def client(tiny_server):
    with Client(tiny_server.url) as client:
        yield client


@pytest.fixture
def own_server(tiny_repository):
    """A server that a test may harm."""
    with EmbeddedServer(tiny_repository) as server:
        yield server


def test_a_slice_with_tumor_is_segmented(client):
    analysis = client.analyze(slices(TUMOR)[0])

    assert analysis.tumor_probability == TUMOR
    assert analysis.tumor
    assert analysis.verdict == "tumor"
    assert analysis.segmented
    assert analysis.bounding_box == BoundingBox(0, 0, 192, 256)
    assert analysis.area_px == 192 * 256
    assert analysis.mask_probability is None
    assert analysis.latency_s > 0


def test_a_slice_without_is_not(client):
    analysis = client.analyze(slices(CLEAR)[0])

    assert analysis.tumor_probability == CLEAR
    assert not analysis.tumor
    assert analysis.verdict == "no tumor"
    assert not analysis.segmented
    assert not analysis.mask.any()


def test_the_detection_threshold_moves_the_verdict_and_equality_counts(client):
    assert client.analyze(slices(CLEAR)[0], detection_threshold=CLEAR).tumor
    assert client.analyze(slices(CLEAR)[0], detection_threshold=CLEAR).detected
    assert not client.analyze(slices(TUMOR)[0], detection_threshold=TUMOR + 0.01).tumor


def test_a_forced_gate_needs_a_threshold_for_a_verdict(client):
    always = client.analyze(slices(CLEAR)[0], gate="always")
    never = client.analyze(slices(TUMOR)[0], gate="never", detection_threshold=0.7)

    assert always.segmented
    assert always.area_px == 64 * 256
    assert always.detected is always.tumor is None
    assert always.verdict == "undecided"
    assert not never.segmented
    assert never.area_px == 0
    assert never.detected
    assert never.verdict == "suspicious"


def test_a_slice_that_opens_the_gate_and_shows_nothing_to_outline_is_suspicious(client):
    found = client.analyze(slices(0)[0], detection_threshold=0, mask_threshold=1)

    assert found.segmented
    assert found.area_px == 0
    assert (found.detected, found.tumor, found.verdict) == (True, False, "suspicious")


def test_the_mask_threshold_moves_the_mask(client):
    image = slices(TUMOR)[0]
    image[:, 192:] = 51  # A fifth of white.

    assert client.analyze(image, mask_threshold=0.3).area_px == 192 * 256
    assert client.analyze(image, mask_threshold=0.1).area_px == 256 * 256


def test_probabilities_of_pixels_come_when_asked_for(client):
    image = np.kron(slices(TUMOR)[0], np.ones((2, 2, 1), np.uint8))

    plane = client.analyze(image, return_mask_probability=True).mask_probability

    assert plane.shape == (512, 512)
    assert plane.dtype == np.float32
    assert plane[:, :380].min() == 1
    assert plane[:, 390:].max() == 0


@pytest.mark.parametrize("size", [(512, 512), (300, 200), (100, 150), (40, 256)])
def test_the_mask_of_a_file_of_any_size_is_on_its_own_grid(client, tmp_path, size):
    height, width = size
    white = round(0.9 * width)
    picture = np.zeros((*size, 3), np.uint8)
    picture[:, :white, FLAIR] = 255
    cv2.imwrite(str(tmp_path / "scan.tif"), picture)

    analysis = client.analyze(tmp_path / "scan.tif", detection_threshold=0.1)

    assert analysis.mask.shape == size
    assert analysis.overlay().shape == (*size, 3)
    box = analysis.bounding_box
    assert (box.x, box.y, box.height) == (0, 0, height)
    assert box.width == pytest.approx(white, abs=2)


def test_a_16_bit_grey_picture_is_stretched(client):
    grey = np.zeros((256, 256), np.uint16)
    grey[:, 64:] = 3000

    assert client.analyze(grey).tumor_probability == TUMOR


def test_many_keep_their_order(client):
    levels = np.random.default_rng(0).integers(0, 256, 60) / 256

    analyses = client.analyze_many(slices(*levels), in_flight=7)

    assert [analysis.tumor_probability for analysis in analyses] == levels.tolist()


def test_many_are_taken_one_by_one_from_an_endless_source(client):
    taken = itertools.count()
    pictures = (slices(TUMOR)[0] for _ in taken)

    first = list(itertools.islice(client.analyze_many(pictures, in_flight=4), 10))

    assert len(first) == 10
    assert next(taken) <= 10 + 4


def test_many_come_as_they_are_done_with_their_places(client):
    shares = [0.1, 0.9, 0.3, 0.8] * 4

    pairs = list(client.analyze_many((slices(share)[0] for share in shares), ordered=False))

    assert sorted(index for index, _ in pairs) == list(range(16))
    for index, analysis in pairs:
        assert analysis.tumor_probability == pytest.approx(shares[index], abs=0.01)


def test_a_detection_never_wakes_the_segmenter(client, tiny_server):
    with InferenceServerClient(tiny_server.url) as triton:

        def segmented() -> int:
            return triton.get_inference_statistics(SEGMENTER.name).model_stats[0].inference_count

        before = settled(segmented)
        found, clear = client.detect(slices(TUMOR)[0]), client.detect(slices(CLEAR)[0])
        moved = client.detect(slices(CLEAR)[0], detection_threshold=CLEAR)

        assert settled(segmented) == before
    assert (found.tumor_probability, found.verdict) == (TUMOR, "suspicious")
    assert (clear.tumor_probability, clear.verdict) == (CLEAR, "no tumor")
    assert moved.detected


def test_the_server_says_what_it_serves(client):
    info = client.server_info()

    assert info.version.count(".") == 2
    assert [model.name for model in info.models] == [model.name for model in MODELS]
    assert {model.versions for model in info.models} == {("1",)}
    assert [model.max_batch_size for model in info.models] == [32, 32, 32, 0]
    assert [model.max_queue_size for model in info.models[2:]] == [128, 16]
    assert info.operating_point == OperatingPoint(detection_threshold=0.5, mask_threshold=0.5)


def test_the_asynchronous_client_answers_as_the_other_does(client, tiny_server):
    pictures = [slices(share)[0] for share in (0.1, 0.9, 0.3, 0.8)]

    async def ask():
        async with AsyncClient(tiny_server.url) as other:
            await other.wait_until_ready()
            return (
                await other.analyze(pictures[1], return_mask_probability=True),
                await other.detect(pictures[1]),
                await other.server_info(),
                [analysis async for analysis in other.analyze_many(pictures)],
                [pair async for pair in other.analyze_many(pictures, ordered=False, on_error="return")],
            )

    analysis, detection, info, many, pairs = asyncio.run(ask())

    expected = client.analyze(pictures[1], return_mask_probability=True)
    assert analysis.tumor_probability == detection.tumor_probability == expected.tumor_probability
    np.testing.assert_array_equal(analysis.mask, expected.mask)
    np.testing.assert_array_equal(analysis.mask_probability, expected.mask_probability)
    assert info == client.server_info()
    assert [a.tumor_probability for a in many] == [a.tumor_probability for a in client.analyze_many(pictures)]
    assert {index: found.tumor_probability for index, found in pairs} == dict(
        enumerate(a.tumor_probability for a in many)
    )


def test_a_bad_picture_among_many_ends_them_unless_told_otherwise(client):
    pictures = [slices(TUMOR)[0], np.full((4, 4), np.nan), slices(CLEAR)[0]]

    with pytest.raises(ImageError, match="NaN"):
        list(client.analyze_many(pictures))
    first, second, third = client.analyze_many(pictures, on_error="return")

    assert isinstance(second, ImageError)
    assert (first.tumor, third.tumor) == (True, False)


def test_analyze_many_wants_many(client):
    with pytest.raises(TypeError, match="use analyze"):
        client.analyze_many("scan.tif")
    with pytest.raises(TypeError, match="use analyze"):
        client.analyze_many(slices(TUMOR)[0])
    with pytest.raises(ValueError, match="in_flight is 0"):
        client.analyze_many([], in_flight=0)
    with pytest.raises(ValueError, match="on_error is 'ignore'"):
        client.analyze_many([], on_error="ignore")


def test_threads_may_share_a_client(client):
    levels = [index / 256 for index in range(160)]

    with ThreadPoolExecutor(8) as threads:
        analyses = threads.map(lambda level: client.analyze(slices(level)[0]), levels)

    assert [analysis.tumor_probability for analysis in analyses] == levels


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"gate": "ajar"}, r"gate\W* is 'ajar'"),
        ({"detection_threshold": 1.5}, r"detection_threshold\W* is 1\.5"),
        ({"mask_threshold": float("nan")}, r"mask_threshold\W* is nan"),
    ],
)
def test_a_value_that_the_server_refuses(client, options, told):
    with pytest.raises(InvalidRequestError, match=told) as caught:
        client.analyze(slices(TUMOR)[0], **options)

    assert caught.value.url == client.url
    assert caught.value.status == "INVALID_ARGUMENT"
    assert caught.value.request_id
    assert not caught.value.may_retry


def test_an_unknown_option_is_a_type_error(client):
    with pytest.raises(TypeError, match="threshold"):
        client.analyze(slices(TUMOR)[0], threshold=0.5)


def test_readiness(client):
    assert client.is_ready()
    client.wait_until_ready(timeout_s=0)


def test_nobody_there_is_said_at_once():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{listener.getsockname()[1]}"
    started = time.monotonic()

    with Client(url) as client:
        assert not client.is_ready()
        with pytest.raises(ServerUnavailableError, match=f"no Triton answers gRPC at {url}.*gliogate serve") as caught:
            client.analyze(slices(TUMOR)[0])
        with pytest.raises(ServerUnavailableError, match=url):
            client.wait_until_ready(timeout_s=0.3)

    assert time.monotonic() - started < 5
    assert caught.value.status == "UNAVAILABLE"
    assert caught.value.may_retry


def test_a_port_that_speaks_something_else(tiny_server):
    url = tiny_server.http_url.removeprefix("http://")

    with Client(url) as client, pytest.raises(ServerUnavailableError, match="is that its gRPC port"):
        client.analyze(slices(TUMOR)[0], timeout_s=5)


def test_a_client_waits_for_a_server_that_starts_later(tiny_repository):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with ThreadPoolExecutor(1) as thread, Client(f"127.0.0.1:{port}") as client:
        waiting = thread.submit(client.wait_until_ready)
        time.sleep(0.3)
        assert not waiting.done()
        with EmbeddedServer(tiny_repository, grpc_port=port):
            waiting.result(timeout=5)
            assert client.analyze(slices(TUMOR)[0]).tumor


def test_the_deadline_holds_when_the_server_hangs(own_server):
    with Client(own_server.url) as client:
        client.analyze(slices(TUMOR)[0])
        signal_triton(own_server, signal.SIGSTOP)
        started = time.monotonic()
        try:
            with pytest.raises(DeadlineExceededError, match=r"within 0\.5 s") as caught:
                client.analyze(slices(TUMOR)[0], timeout_s=0.5)
        finally:
            signal_triton(own_server, signal.SIGCONT)

        assert time.monotonic() - started < 2
        assert caught.value.may_retry
        assert client.analyze(slices(TUMOR)[0]).tumor  # Late, but not lost for the next.


def test_a_server_that_dies_in_mid_request(own_server):
    with Client(own_server.url) as client:
        client.analyze(slices(TUMOR)[0])
        signal_triton(own_server, signal.SIGSTOP)  # So that the request is certainly under way.
        analyses = client.analyze_many(slices(*[TUMOR] * 8), on_error="return")
        killer = threading.Timer(0.5, signal_triton, (own_server, signal.SIGKILL))
        killer.start()
        started = time.monotonic()
        outcomes = list(analyses)
        killer.join()

    assert all(isinstance(outcome, ServerUnavailableError) for outcome in outcomes)
    assert all(outcome.status == "UNAVAILABLE" and outcome.request_id for outcome in outcomes)
    assert time.monotonic() - started < 10


def test_when_the_server_is_lost_the_scans_left_fail_at_once(own_server, tmp_path):
    np.save(tmp_path / "scan.npy", slices(TUMOR)[0])
    scans = [Scan(tmp_path / "scan.npy", Path(str(number))) for number in range(500)]

    with Client(own_server.url) as client:
        outcomes = analyze_scans(client, scans, in_flight=4)
        done = list(itertools.islice(outcomes, 5))
        signal_triton(own_server, signal.SIGKILL)
        started = time.monotonic()
        left = list(outcomes)

    assert time.monotonic() - started < 10
    assert all(isinstance(outcome.result, Analysis) for outcome in done)
    assert len(left) == 495
    assert isinstance(left[-1].result, ServerUnavailableError)


def test_a_closed_client_says_so(tiny_server):
    client = Client(tiny_server.url)
    pending = client.analyze_many(slices(TUMOR, TUMOR), in_flight=1)
    next(pending)
    client.close()
    client.close()

    for use in (
        lambda: client.analyze(slices(TUMOR)[0]),
        lambda: client.analyze_many([]),
        client.is_ready,
        client.wait_until_ready,
        lambda: next(pending),
    ):
        with pytest.raises(ClientClosedError, match="was closed"):
            use()


def test_closing_ends_what_is_under_way(own_server):
    client = Client(own_server.url)
    client.analyze(slices(TUMOR)[0])
    signal_triton(own_server, signal.SIGSTOP)
    threading.Timer(0.3, client.close).start()
    try:
        with pytest.raises(ClientClosedError, match="under way"):
            client.analyze(slices(TUMOR)[0])
    finally:
        signal_triton(own_server, signal.SIGCONT)


@pytest.mark.parametrize("url", ["localhost", "http://localhost:8001", "localhost:", ":8001", "localhost:http", ""])
def test_an_address_without_host_or_port(url):
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        Client(url)


def test_a_volume_is_analyzed_and_put_together(client, tiny_server, tmp_path):
    """Five slices, of which two show tumor in their left three quarters, which each sees of its neighbours, too."""
    head = np.stack([slices(share)[0] for share in (CLEAR, TUMOR, TUMOR, CLEAR, CLEAR)])
    np.save(tmp_path / "head.npy", head)

    found = client.analyze_volume(tmp_path / "head.npy")

    assert found.verdict == "tumor"
    # Of a logit or its negative at 5 mm, which nobody says, half counts.
    shares = np.array([-1 / 3, 1 / 2, 1 / 2, -1 / 2, -1])
    assert found.probabilities == pytest.approx(1 / (1 + 3**-shares))
    assert [row["area_px"] for row in found.table()] == [0, 192 * 256, 192 * 256, 0, 0]
    (component,) = found.components
    assert (component.first_slice, component.last_slice) == (1, 2)
    assert found.tumor_volume_ml is None

    async def ask():
        async with AsyncClient(tiny_server.url) as other:
            return await other.analyze_volume(head)

    np.testing.assert_array_equal(asyncio.run(ask()).mask, found.mask)


def test_a_volume_fails_as_a_whole_and_names_what_is_wrong(client, tmp_path):
    with pytest.raises(ImageError, match=r"absent"):
        client.analyze_volume(tmp_path / "absent")


def test_specks_that_cannot_be_measured_are_told_of_before_anything_is_sent(client):
    head = np.zeros((3, 256, 256), np.uint8)

    with pytest.raises(ImageError, match="min_component_ml needs the spacing, but it is unknown"):
        client.analyze_volume(head, min_component_ml=0.1, timeout_s=-1)
