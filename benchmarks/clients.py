"""The clients that ask over loopback, each keeping a number of requests under way until all are answered."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import TracebackType
from typing import Self

import aiohttp
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from benchmarks.measured import Asked, Measured, closed_loop
from benchmarks.pair import Images, Networks
from gliogate import Client
from gliogate.contract import (
    DETECTOR,
    ENSEMBLE,
    GATE,
    IMAGE,
    MASK_PROBABILITY,
    SEGMENTED,
    SEGMENTER,
    TUMOR_MASK,
    TUMOR_PROBABILITY,
    GateMode,
)

TIMEOUT_S = 120.0
_PROBABILITY_BYTES = 4


@contextmanager
def sdk(url: str, gate: GateMode = "auto") -> Iterator[Asked]:
    """Gliogate's own client."""
    with Client(url) as client:

        def ask(images: Images, in_flight: int) -> Measured:
            start = time.perf_counter()
            answers = client.analyze_many(images, in_flight=in_flight, ordered=False, gate=gate, timeout_s=TIMEOUT_S)
            analyses = dict(answers)
            seconds = time.perf_counter() - start
            placed = [analyses[place] for place in range(len(images))]
            return Measured.of(
                seconds,
                np.array([each.latency_s for each in placed]),
                [each.mask for each in placed],
                [each.segmented for each in placed],
            )

        yield ask


@contextmanager
def bare(url: str, gate: GateMode = "auto") -> Iterator[Asked]:
    """NVIDIA's client, with nothing around it."""
    outputs = [output.name for output in (TUMOR_PROBABILITY, TUMOR_MASK, SEGMENTED)]
    with _Bare(url) as client:

        def ask(images: Images, in_flight: int) -> Measured:
            measured, answers = client.ask_all(images, in_flight, ENSEMBLE.name, outputs, {GATE: gate})
            opened = [answer.as_numpy(SEGMENTED.name).item() for answer in answers]
            masks = [answer.as_numpy(TUMOR_MASK.name) for answer in answers]
            return Measured.of(*measured, masks, opened)

        yield ask


@contextmanager
def always_both(url: str, networks: Networks) -> Iterator[Asked]:
    """NVIDIA's client, asking Triton's own ensemble, which runs both networks on every slice."""
    outputs = [TUMOR_PROBABILITY.name, MASK_PROBABILITY.name]
    with _Bare(url) as client:

        def ask(images: Images, in_flight: int) -> Measured:
            measured, answers = client.ask_all(images, in_flight, ENSEMBLE.name, outputs)
            opened = [_opens(answer, networks) for answer in answers]
            masks = [_mask(answer, networks) for answer in answers]
            return Measured.of(*measured, masks, opened)

        yield ask


@contextmanager
def two_calls(url: str, networks: Networks) -> Iterator[Asked]:
    """NVIDIA's client, asking one network, deciding, and asking the other."""
    with _Bare(url) as client:

        def ask(images: Images, in_flight: int) -> Measured:
            masks = np.zeros(images.shape[:3], np.uint8)
            opened = [False] * len(images)

            def receive() -> int:
                while True:
                    place, answer = client.receive()
                    if MASK_PROBABILITY.name in (output.name for output in answer.get_response().outputs):
                        masks[place] = _mask(answer, networks)[0]
                        return place
                    opened[place] = _opens(answer, networks)
                    if not opened[place]:
                        return place
                    client.send(place, images[place], SEGMENTER.name, [MASK_PROBABILITY.name])

            def send(place: int) -> None:
                client.send(place, images[place], DETECTOR.name, [TUMOR_PROBABILITY.name])

            return Measured.of(*closed_loop(len(images), in_flight, send, receive), list(masks), opened)

        yield ask


@contextmanager
def mlserver(url: str, networks: Networks) -> Iterator[Asked]:
    """NVIDIA's client, asking MLServer, which speaks the same protocol."""
    with _Bare(url) as client:

        def ask(images: Images, in_flight: int) -> Measured:
            measured, answers = client.ask_all(images, in_flight, ENSEMBLE.name, [])
            opened = [_opens(answer, networks) for answer in answers]
            masks = [answer.as_numpy(TUMOR_MASK.name) for answer in answers]
            return Measured.of(*measured, masks, opened)

        yield ask


@contextmanager
def http(url: str, networks: Networks, *, form: bool = False) -> Iterator[Asked]:
    """Raw bytes over HTTP, which is the least that it can cost; or as a file in a form."""

    def ask(images: Images, in_flight: int) -> Measured:
        body = _form if form else _raw
        return asyncio.run(_ask_http(f"http://{url}/predict", images, in_flight, networks.detection_threshold, body))

    yield ask


def _raw(image: bytes) -> aiohttp.Payload:
    return aiohttp.BytesPayload(image, content_type="application/octet-stream")


def _form(image: bytes) -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("image", image, filename="image", content_type="application/octet-stream")
    return form


async def _ask_http(
    url: str,
    images: Images,
    in_flight: int,
    threshold: float,
    body: Callable[[bytes], aiohttp.Payload | aiohttp.FormData],
) -> Measured:
    replies: list[bytes] = [b""] * len(images)
    latencies = np.empty(len(images))
    places = iter(range(len(images)))

    async def worker(session: aiohttp.ClientSession) -> None:
        for place in places:
            start = time.perf_counter()
            async with session.post(url, data=body(images[place].tobytes())) as response:
                response.raise_for_status()
                replies[place] = await response.read()
            latencies[place] = time.perf_counter() - start

    timeout, connector = aiohttp.ClientTimeout(total=TIMEOUT_S), aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        start = time.perf_counter()
        await asyncio.gather(*(worker(session) for _ in range(in_flight)))
        seconds = time.perf_counter() - start
    probabilities = [np.frombuffer(reply[:_PROBABILITY_BYTES], np.float32)[0] for reply in replies]
    opened = [bool(probability >= np.float32(threshold)) for probability in probabilities]
    masks = [np.frombuffer(reply, np.uint8, offset=_PROBABILITY_BYTES) for reply in replies]
    return Measured.of(seconds, latencies, masks, opened)


class _Bare:
    """NVIDIA's client, with a queue that answers come out of as they come in."""

    def __init__(self, url: str) -> None:
        self._client = InferenceServerClient(url)
        self._answers: SimpleQueue[tuple[int, InferResult | None, Exception | None]] = SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._client.close()

    def send(
        self,
        place: int,
        slice_: Images,
        model: str,
        outputs: Iterable[str],
        parameters: dict[str, str] | None = None,
    ) -> None:
        """Starts a request about one slice (256, 256, 3)."""
        image = InferInput(IMAGE.name, (1, *IMAGE.shape), IMAGE.dtype)
        image.set_data_from_numpy(slice_[np.newaxis])
        self._client.async_infer(
            model,
            [image],
            callback=lambda result, error: self._answers.put((place, result, error)),
            outputs=[InferRequestedOutput(name) for name in outputs] or None,
            parameters=parameters,
            client_timeout=TIMEOUT_S,
        )

    def receive(self) -> tuple[int, InferResult]:
        """Waits for any answer; returns the place of its request too."""
        place, answer, error = self._answers.get()
        if error is not None:
            raise error
        return place, answer

    def ask_all(
        self,
        images: Images,
        in_flight: int,
        model: str,
        outputs: Iterable[str],
        parameters: dict[str, str] | None = None,
    ) -> tuple[tuple[float, NDArray[np.float64]], list[InferResult]]:
        """Asks one model about all slices; returns what `closed_loop` does, and the answers."""
        answers: dict[int, InferResult] = {}

        def send(place: int) -> None:
            self.send(place, images[place], model, outputs, parameters)

        def receive() -> int:
            place, answers[place] = self.receive()
            return place

        measured = closed_loop(len(images), in_flight, send, receive)
        return measured, [answers[place] for place in range(len(images))]


def _opens(answer: InferResult, networks: Networks) -> bool:
    return bool(answer.as_numpy(TUMOR_PROBABILITY.name).item() >= np.float32(networks.detection_threshold))


def _mask(answer: InferResult, networks: Networks) -> NDArray[np.uint8]:
    mask: NDArray[np.bool_] = answer.as_numpy(MASK_PROBABILITY.name) >= networks.mask_threshold
    return mask.view(np.uint8)
