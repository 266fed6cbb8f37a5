"""The client: pictures in, analyses out, over gRPC."""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, Unpack, overload

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferResult
from tritonclient.utils import InferenceServerException

from gliogate.contract import CHANNELS, MODELS
from gliogate.errors import ClientClosedError, GliogateError, RequestError
from gliogate.images import Picture
from gliogate.results import Analysis
from gliogate.wire import (
    CHANNEL_OPTIONS,
    FINAL_STATUSES,
    IN_FLIGHT,
    READINESS_TIMEOUT_S,
    TIMEOUT_S,
    Health,
    Options,
    Request,
    check_address,
    request_error,
)

if TYPE_CHECKING:
    from tritonclient.grpc._client import CallContext


@dataclass(frozen=True)
class _Call:
    """A request under way: started, by a thread of its own, and then answered, with the seconds that it took."""

    request: Request
    started: "Future[CallContext]"
    answer: "Future[tuple[InferResult, float]]"

    def cancel(self) -> None:
        if not self.started.cancel() and self.started.exception() is None:
            self.started.result().cancel()


class Client:
    """A connection to a Triton that serves gliogate's models. Threads may share one.

        with Client("localhost:8001") as client:
            analysis = client.analyze("slice.tif")

    Connecting happens with the first call. Requests that found the server unavailable are sent again, three times in
    all and within their deadline.

    Args:
        url: HOST:PORT of Triton's gRPC endpoint.

    Raises:
        ValueError: `url` is no HOST:PORT.
    """

    def __init__(self, url: str) -> None:
        self.url = check_address(url)
        self._triton = InferenceServerClient(url, channel_args=list(CHANNEL_OPTIONS))
        # One thread starts all calls. Ctrl-C, which interrupts only the main thread, would leave a half-started call
        # behind on which gRPC waits forever when it closes; and tritonclient can start only one at a time.
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gliogate-sender")
        self._is_closed = False

    def __enter__(self) -> Self:
        """Opens nothing that is not open: the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the client."""
        self.close()

    def close(self) -> None:
        """Ends the connection; requests under way fail with `ClientClosedError`. Closing twice is fine."""
        self._is_closed = True
        self._sender.shutdown()
        self._triton.close()

    def is_ready(self) -> bool:
        """Whether a Triton answers and every model of gliogate's is ready.

        Raises:
            ClientClosedError: the client was closed.
        """
        self._check_open()
        return self._health().is_ready

    def wait_until_ready(self, timeout_s: float = TIMEOUT_S) -> None:
        """Waits until a Triton answers and every model of gliogate's is ready.

        Args:
            timeout_s: how long to wait, in seconds.

        Raises:
            ServerUnavailableError: nobody answered in time.
            ModelNotReadyError: the server answered, but a model was still not ready.
            ClientClosedError: the client was closed.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._check_open()
            health = self._health()
            if health.is_ready:
                return
            if time.monotonic() >= deadline:
                raise request_error("UNAVAILABLE", "", url=self.url, health=health)
            time.sleep(0.1)

    def analyze(self, picture: Picture, **options: Unpack[Options]) -> Analysis:
        """Finds and outlines tumor in one picture.

        Args:
            picture: a file (.bmp .jpeg .jpg .npy .png .tif .tiff), or an array (H, W), (H, W, 1) or (H, W, 3) of
                integers or floats; see `gliogate.images.load_picture` for how it becomes a slice.
            **options: see `Options`.

        Returns:
            The analysis, its mask on the picture's own grid.

        Raises:
            ImageError: the picture cannot be read, or cannot be a slice.
            InvalidRequestError: the server refused an option's value.
            DeadlineExceededError: no answer within `timeout_s`.
            ModelNotReadyError: the server is up, but a model is missing or still loading.
            ServerUnavailableError: nobody answers, the server went away, or it is overloaded.
            ClientClosedError: the client was closed.
        """
        return self._receive(self._send(Request(picture, **options)))

    @overload
    def analyze_many(
        self,
        pictures: Iterable[Picture],
        *,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[Options],
    ) -> Iterator[Analysis]: ...

    @overload
    def analyze_many(
        self,
        pictures: Iterable[Picture],
        *,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["return"],
        **options: Unpack[Options],
    ) -> Iterator[Analysis | GliogateError]: ...

    def analyze_many(
        self,
        pictures: Iterable[Picture],
        *,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["raise", "return"] = "raise",
        **options: Unpack[Options],
    ) -> Iterator[Analysis | GliogateError]:
        """Analyzes any number of pictures, with several requests under way at a time.

        Args:
            pictures: see `analyze`. Taken one by one, never more than `in_flight` ahead of what was yielded: an endless
                generator is fine.
            in_flight: how many requests may be under way at a time.
            on_error: what becomes of a picture that fails. `raise` ends the iteration with its error; `return` yields
                the error in its place and goes on.
            **options: see `Options`; `timeout_s` counts for each picture.

        Returns:
            An iterator over the analyses, in the order of the pictures.

        Raises:
            ValueError: `in_flight` is below 1, or `on_error` neither `raise` nor `return`.
            TypeError: `pictures` is a single one.
            ClientClosedError: the client was closed.
        """
        self._check_open()
        if in_flight < 1:
            raise ValueError(f"in_flight is {in_flight}, expected 1 or more")
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'return'")
        if _is_one_picture(pictures):
            raise TypeError("analyze_many takes several pictures, this is one: use analyze")
        return self._analyze_many(iter(pictures), in_flight, keep_errors=on_error == "return", options=options)

    def _analyze_many(
        self, pictures: Iterator[Picture], in_flight: int, *, keep_errors: bool, options: Options
    ) -> Iterator[Analysis | GliogateError]:
        window: deque[_Call | GliogateError] = deque()
        try:
            for picture in pictures:
                window.append(self._try_send(picture, options))
                if len(window) == in_flight:
                    yield self._outcome(window, keep_errors=keep_errors)
            while window:
                yield self._outcome(window, keep_errors=keep_errors)
        finally:
            for left in window:
                if isinstance(left, _Call):
                    left.cancel()

    def _try_send(self, picture: Picture, options: Options) -> _Call | GliogateError:
        """Sends a picture; where that fails, its error takes its place in the order."""
        try:
            return self._send(Request(picture, **options))
        except ClientClosedError:
            raise
        except GliogateError as error:
            return error

    def _outcome(self, window: "deque[_Call | GliogateError]", *, keep_errors: bool) -> Analysis | GliogateError:
        first = window.popleft()
        try:
            if isinstance(first, GliogateError):
                raise first
            return self._receive(first)
        except ClientClosedError:
            raise
        except GliogateError as error:
            if not keep_errors:
                raise
            return error

    def _send(self, request: Request) -> _Call:
        self._check_open()
        answer: Future[tuple[InferResult, float]] = Future()
        arguments = request.arguments()
        sent = time.perf_counter()

        def answered(result: InferResult | None, error: InferenceServerException | None) -> None:
            if error is None:
                answer.set_result((result, time.perf_counter() - sent))
            else:
                answer.set_exception(error)

        try:
            started = self._sender.submit(self._triton.async_infer, callback=answered, **arguments)
        except RuntimeError:
            self._check_open()  # Another thread has just closed the client.
            raise
        return _Call(request, started, answer)

    def _receive(self, call: _Call) -> Analysis:
        try:
            call.started.result()
            result, latency_s = call.answer.result()
        except InferenceServerException as error:
            raise self._explain(error, call.request) from error
        except BaseException:  # Ctrl-C: nobody waits for the answer any more.
            call.cancel()
            raise
        return call.request.read(result, latency_s)

    def _explain(self, error: InferenceServerException, request: Request) -> RequestError | ClientClosedError:
        if self._is_closed:
            return ClientClosedError("the client was closed while this request was under way")
        status = _status(error)
        health = None if status in FINAL_STATUSES else self._health()
        return request_error(status, error.message(), url=self.url, request=request, health=health)

    def _health(self) -> Health:
        """Asks the server how it is; one that does not answer, or is no Triton, is not live."""
        try:
            return Health(
                is_live=self._triton.is_server_live(client_timeout=READINESS_TIMEOUT_S),
                not_ready=tuple(
                    model.name
                    for model in MODELS
                    if not self._triton.is_model_ready(model.name, client_timeout=READINESS_TIMEOUT_S)
                ),
            )
        except (InferenceServerException, ValueError):  # gRPC's ValueError: another thread closed the client.
            return Health(is_live=False)

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClientClosedError(f"this client of {self.url} was closed: make a new one")


def _is_one_picture(pictures: object) -> bool:
    """Whether this is a picture by itself; an array of several, (N, H, W) or (N, H, W, 3), is not."""
    if isinstance(pictures, np.ndarray):
        return pictures.ndim < 3 or (pictures.ndim == 3 and pictures.shape[2] in (1, len(CHANNELS)))
    return isinstance(pictures, str | os.PathLike)


def _status(error: InferenceServerException) -> str:
    """The name of the gRPC status, `UNAVAILABLE` and the like."""
    return str(error.status()).rpartition(".")[2]
