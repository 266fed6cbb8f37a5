"""How the proxy tells a server that hangs or is broken from one that is idle, slow, or badly asked."""

import pytest

from gliogate.embedded.proxy.inference import Inference
from gliogate.embedded.proxy.progress import FAILURES, FORGOTTEN_AFTER_S, TICK_S, UNREADY_AFTER_S, Progress
from gliogate.embedded.proxy.settings import Settings


@pytest.fixture
def progress():
    return Progress()


STOPPING = "Server is stopping, scheduler for model has stopped accepting new inference requests"


@pytest.mark.parametrize(
    ("words", "is_gone"),
    [
        ("Server exiting", True),
        (STOPPING, True),
        (f"[request id: 7] {STOPPING}", True),
        ("tumor_detector: Stub process 'tumor_detector_0_0' is not healthy", True),
        (f"[request id: x] {STOPPING}] inference input 'image' has the wrong type", False),
        (f"[request id: x] unexpected inference output '{STOPPING}'", False),
        ("Server exiting, says a caller", False),
    ],
)
def test_a_triton_that_ends_is_told_from_words_of_callers(progress, words, is_gone):
    ports = dict.fromkeys(("grpc_port", "http_port", "metrics_port"), 0)
    paths = dict.fromkeys(("grpc_socket", "http_socket", "metrics_socket", "probe"), "")
    settings = Settings(address="127.0.0.1", **ports, **paths)

    assert Inference(settings, progress).failed(words) is is_gone
    assert bool(progress.broken) is is_gone


def pass_time(progress, seconds):
    for _ in range(round(seconds / TICK_S)):
        progress.tick()


def test_a_request_that_waits_brings_doubt_and_an_answer_ends_it(progress):
    with progress.request():
        pass_time(progress, UNREADY_AFTER_S)
        assert not progress.is_in_doubt
        pass_time(progress, 1)
        assert progress.is_in_doubt
    progress.answered()

    assert not progress.is_in_doubt


def test_an_idle_server_is_in_no_doubt(progress):
    pass_time(progress, 36_000)

    assert (progress.stalled_s, progress.failing_s) == (0, 0)


def test_requests_that_are_answered_soon_count_for_nothing(progress):
    for _ in range(1000):
        with progress.request():
            progress.tick()
    assert progress.stalled_s == 0


def test_a_few_failures_say_nothing_and_many_for_a_while_do(progress):
    for _ in range(FAILURES - 1):
        progress.failed()
        pass_time(progress, 4)
    assert not progress.is_in_doubt
    progress.failed()

    assert progress.failing_s == 4 * (FAILURES - 1)
    assert progress.is_in_doubt


def test_failures_that_lie_far_apart_are_not_of_one_trouble(progress):
    for _ in range(20):
        progress.failed()
        pass_time(progress, FORGOTTEN_AFTER_S + 1)

    assert not progress.is_in_doubt


def test_what_is_gone_is_not_made_good_by_another_instance(progress):
    progress.broken = "Stub process 'a' is not healthy"
    progress.answered()
    assert progress.is_in_doubt
    progress.start_anew()

    assert not progress.is_in_doubt
