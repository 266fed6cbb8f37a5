"""The client: pictures in, analyses out, over gRPC."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, Unpack, overload

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gliogate.base import (
    WAIT_BETWEEN_QUESTIONS_S,
    BaseClient,
    OnError,
    Progress,
    as_value,
    check_in_flight,
    check_many,
    check_slices,
    goes_slice_by_slice,
    health_of,
    tells_all,
)
from gliogate.connection import ConnectionOptions
from gliogate.contract import MODELS, NEEDED, VOLUME, Model
from gliogate.errors import ClientClosedError, GliogateError
from gliogate.images import Picture
from gliogate.parts import IN_FLIGHT as PARTS_IN_FLIGHT
from gliogate.results import Analysis, Detection, ServerInfo
from gliogate.telemetry import CallRecord
from gliogate.wire import (
    IN_FLIGHT,
    READINESS_TIMEOUT_S,
    TIMEOUT_S,
    DetectionOptions,
    Health,
    OperatingPointRequest,
    Options,
    Request,
    infer_on,
    patience,
    server_info,
)

if TYPE_CHECKING:
    from gliogate.volumes import Volume, VolumeAnalysis, VolumeSource

R = TypeVar("R")


@dataclass(frozen=True)
class _Call(Generic[R]):
    """A request under way: started, by a thread of its own, and then answered, in bytes and within some seconds."""

    request: Request[R]
    started: Future[grpc.Future]
    answer: Future[tuple[bytes, float]]

    def cancel(self) -> None:
        if not self.started.cancel() and self.started.exception() is None:
            self.started.result().cancel()


class Client(BaseClient):
    """A connection to a Triton that serves gliogate's models. Threads may share one, processes may not.

        with Client("localhost:8001") as client:
            analysis = client.analyze("slice.tif")

    Connecting happens with the first call. Requests that found the server unavailable are sent again, see `Retries`.

    Args:
        url: HOST:PORT of Triton's gRPC endpoint. `dns:///HOST:PORT`, or several numeric addresses, for several servers
            that share the requests. The environment's `GLIOGATE_URL` where it is None, else localhost:8001.
        **options: see `ConnectionOptions`.

    Raises:
        ValueError: an address or an option makes no sense.
    """

    def __init__(self, url: str | Sequence[str] | None = None, **options: Unpack[ConnectionOptions]) -> None:
        super().__init__(url, **options)
        self._channel = self._connection.channel(grpc)
        self._triton = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._infer = infer_on(self._channel)
        # A thread starts all calls. Ctrl-C, which interrupts only the main thread, would leave a half-started call
        # behind on which gRPC waits forever when it closes.
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gliogate-sender")

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
        if self._life.end():
            self._sender.shutdown()
            self._channel.close()

    def is_ready(self) -> bool:
        """Whether a Triton answers and every model of gliogate's is ready.

        Raises:
            ClientClosedError: the client was closed.
            ForkedClientError: this is not the process that made the client.
        """
        self._check_usable()
        return self._health().is_ready

    def wait_until_ready(self, timeout_s: float = TIMEOUT_S) -> None:
        """Waits until a Triton answers and every model of gliogate's is ready.

        Args:
            timeout_s: how long to wait, in seconds.

        Raises:
            ServerUnavailableError: nobody answered in time.
            ModelNotReadyError: the server answered, but a model was still not ready.
            AuthenticationError: the server does not let this client in.
            ClientClosedError: the client was closed.
            ForkedClientError: this is not the process that made the client.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._check_usable()
            health = self._health(patience(deadline))
            if health.is_ready:
                return
            if not health.is_worth_waiting or time.monotonic() >= deadline:
                raise self._not_ready(health)
            time.sleep(WAIT_BETWEEN_QUESTIONS_S)

    def server_info(self) -> ServerInfo:
        """What the server says of itself: its version, the models' versions and limits, the operating point.

        Raises:
            RequestError: of the kinds that `analyze` raises.
            ClientClosedError: the client was closed.
            ForkedClientError: this is not the process that made the client.
        """
        operating_point = self._receive(self._send(OperatingPointRequest()))
        triton, asked = self._triton, self._question()
        try:
            names = [
                model.name
                for model in MODELS
                if model in NEEDED or triton.ModelReady(service_pb2.ModelReadyRequest(name=model.name), **asked).ready
            ]
            return server_info(
                triton.ServerMetadata(service_pb2.ServerMetadataRequest(), **asked),
                [triton.ModelMetadata(service_pb2.ModelMetadataRequest(name=name), **asked) for name in names],
                [triton.ModelConfig(service_pb2.ModelConfigRequest(name=name), **asked) for name in names],
                operating_point,
                url=self.url,
            )
        except grpc.RpcError as error:
            raise self._explained(error, None) from error

    def detect(
        self, picture: Picture, *, request_id: str | None = None, **options: Unpack[DetectionOptions]
    ) -> Detection:
        """Asks whether one picture shows tumor. The segmenter is not asked, which is what costs most.

        Args:
            picture: see `analyze`.
            request_id: see `analyze`.
            **options: see `DetectionOptions`.

        Raises:
            GliogateError: of the kinds that `analyze` raises.
        """
        return self._receive(self._send(self._detection(picture, options, request_id)))

    def analyze(self, picture: Picture, *, request_id: str | None = None, **options: Unpack[Options]) -> Analysis:
        """Finds and outlines tumor in one picture.

        Args:
            picture: a file (.bmp .jpeg .jpg .npy .png .tif .tiff), or an array (H, W), (H, W, 1) or (H, W, 3) of
                integers or floats; see `gliogate.images.load_picture` for how it becomes a slice.
            request_id: what the server logs for this request; one of its own where it is not given.
            **options: see `Options`.

        Returns:
            The analysis, its mask on the picture's own grid.

        Raises:
            ImageError: the picture cannot be read, or cannot be a slice.
            InvalidRequestError: the server refused an option's value.
            InvalidResponseError: the server's answer makes no sense.
            AuthenticationError: the server does not let this client in.
            DeadlineExceededError: no answer within `timeout_s`.
            ModelNotReadyError: the server is up, but a model is missing or still loading.
            ServerUnavailableError: nobody answers, the server went away, or it is overloaded.
            ClientClosedError: the client was closed.
            ForkedClientError: this is not the process that made the client.
        """
        return self._receive(self._send(self._analysis(picture, options, request_id)))

    def analyze_volume(
        self,
        volume: "Volume | VolumeSource",
        *,
        in_flight: int = IN_FLIGHT,
        min_component_ml: float = 0.0,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> "VolumeAnalysis":
        """Finds and outlines tumor in a head.

        Its slices are judged together, each among its neighbours, where the server can do so; otherwise one by one,
        which `VolumeAnalysis.notes` says.

        Args:
            volume: from `gliogate.volumes.read_volume`, or what that reads: DICOM (extra `dicom`), NIfTI (extra
                `nifti`), a folder of numbered pictures, a `.npy` file or an array.
            in_flight: how many slices may be under way at a time where they are judged one by one, see `analyze_many`.
            min_component_ml: connected parts of the mask that are smaller than that are dropped.
            progress: is called with how many slices are done, and how many there are.
            **options: see `Options`; `timeout_s` counts for each request, of one slice or of some dozens.

        Returns:
            The analysis, its mask on the source's own grid; see `gliogate.volumes.VolumeAnalysis`.

        Raises:
            ImageError: the volume cannot be read, or `min_component_ml` is given and the spacing unknown.
            MissingExtraError: the extra that reads it is not installed.
            GliogateError: of the kinds that `analyze` raises.
        """
        from gliogate.volumes import Volume, VolumeAnalysis, read_volume
        from gliogate.volumes.analysis import check_droppable

        self._check_usable()
        check_in_flight(in_flight, self._connection)
        head = volume if isinstance(volume, Volume) else read_volume(volume)
        check_droppable(head, min_component_ml)
        analyses: dict[int, Analysis] = {}
        for index, analysis in self.analyze_slices(head, in_flight=in_flight, **options):
            analyses[index] = analysis
            if progress is not None:
                progress(len(analyses), len(head.slices))
        in_order = [analyses[index] for index in range(len(head.slices))]
        return VolumeAnalysis.of(head, in_order, min_component_ml=min_component_ml)

    @overload
    def analyze_slices(
        self,
        volume: "Volume",
        *,
        slices: Iterable[int] | None = None,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[Options],
    ) -> Generator[tuple[int, Analysis], None, None]: ...

    @overload
    def analyze_slices(
        self,
        volume: "Volume",
        *,
        slices: Iterable[int] | None = None,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["return"],
        **options: Unpack[Options],
    ) -> Generator[tuple[int, Analysis | GliogateError], None, None]: ...

    def analyze_slices(
        self,
        volume: "Volume",
        *,
        slices: Iterable[int] | None = None,
        in_flight: int = IN_FLIGHT,
        on_error: OnError = "raise",
        **options: Unpack[Options],
    ) -> Generator[tuple[int, Analysis | GliogateError], None, None]:
        """Analyzes slices of a head as `analyze_volume` does, and yields them as they are done.

        Args:
            volume: the head.
            slices: the indices of those that are asked about; the others are looked at for the sake of these. All
                where it is not given.
            in_flight: see `analyze_volume`.
            on_error: see `analyze_many`; what fails a request fails each of its slices.
            **options: see `analyze_volume`.

        Returns:
            A generator of slices: the index of each, and its analysis. Closing it cancels what is under way.

        Raises:
            ValueError: there is no such slice, or as `analyze_many` does.
            ClientClosedError: the client was closed.
            ForkedClientError: this is not the process that made the client.
        """
        self._check_usable()
        check_many(volume.slices, on_error=on_error)
        check_in_flight(in_flight, self._connection)
        wanted = check_slices(slices, len(volume.slices))
        return self._analyze_slices(volume, wanted, in_flight, keep_errors=on_error == "return", options=options)

    def _analyze_slices(
        self, volume: "Volume", wanted: list[int], in_flight: int, *, keep_errors: bool, options: Options
    ) -> Generator[tuple[int, Analysis | GliogateError], None, None]:
        left = dict.fromkeys(wanted)
        if self._serves(VOLUME):
            parts = self._parts(volume, wanted)
            requests = (partial(self._part, volume, part, options) for part in parts)
            at_once = min(in_flight, PARTS_IN_FLIGHT)
            for number, outcome in self._stream(requests, at_once, keep_errors=True, ordered=False):
                part = parts[number]
                if isinstance(outcome, GliogateError):
                    if goes_slice_by_slice(outcome):
                        break
                    if not keep_errors:
                        raise outcome
                for index in range(part.start, part.stop):
                    del left[index]
                    yield index, outcome if isinstance(outcome, GliogateError) else outcome[index - part.start]
        indices = list(left)
        pictures = (volume.slices[index] for index in indices)
        for number, of_slice in self._analyze_many(
            pictures, in_flight, keep_errors=keep_errors, ordered=False, options=options
        ):
            yield indices[number], of_slice

    @overload
    def analyze_many(
        self,
        pictures: Iterable[Picture],
        *,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["raise"] = "raise",
        ordered: Literal[True] = True,
        **options: Unpack[Options],
    ) -> Iterator[Analysis]: ...

    @overload
    def analyze_many(
        self,
        pictures: Iterable[Picture],
        *,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["return"],
        ordered: Literal[True] = True,
        **options: Unpack[Options],
    ) -> Iterator[Analysis | GliogateError]: ...

    @overload
    def analyze_many(
        self,
        pictures: Iterable[Picture],
        *,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["raise"] = "raise",
        ordered: Literal[False],
        **options: Unpack[Options],
    ) -> Iterator[tuple[int, Analysis]]: ...

    @overload
    def analyze_many(
        self,
        pictures: Iterable[Picture],
        *,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["return"],
        ordered: Literal[False],
        **options: Unpack[Options],
    ) -> Iterator[tuple[int, Analysis | GliogateError]]: ...

    def analyze_many(
        self,
        pictures: Iterable[Picture],
        *,
        in_flight: int = IN_FLIGHT,
        on_error: OnError = "raise",
        ordered: bool = True,
        **options: Unpack[Options],
    ) -> Iterator[Analysis | GliogateError] | Iterator[tuple[int, Analysis | GliogateError]]:
        """Analyzes any number of pictures, with several requests under way at a time.

        A server that restarts costs the requests under way just then, or none where `Retries` wait long enough for it;
        with `on_error="return"` the pictures that follow are analyzed by the server that came back.

        Args:
            pictures: see `analyze`. Taken one by one, never more than `in_flight` ahead of what was yielded: an endless
                generator is fine.
            in_flight: how many requests may be under way at a time, from 1 to 128: one server lets so many wait, and
                refuses more. As many for each of several addresses, up to 1024; 1024 for `dns:///`. Memory follows
                it, with up to a megabyte for each slice under way, and more for larger pictures.
            on_error: what becomes of a picture that fails. `raise` ends the iteration with its error; `return` yields
                the error in its place, without a traceback, and goes on.
            ordered: whether analyses come in the order of the pictures. Otherwise they come as they are done, each in a
                pair with the picture's place, from 0.
            **options: see `Options`; `timeout_s` counts for each picture.

        Returns:
            An iterator over the analyses.

        Raises:
            ValueError: `in_flight` is no whole number or more than the servers let wait, or `on_error` neither `raise`
                nor `return`.
            TypeError: `pictures` is a single one.
            ClientClosedError: the client was closed.
            ForkedClientError: this is not the process that made the client.
        """
        self._check_usable()
        check_many(pictures, on_error=on_error)
        check_in_flight(in_flight, self._connection)
        numbered = self._analyze_many(
            iter(pictures), in_flight, keep_errors=on_error == "return", ordered=ordered, options=options
        )
        return (result for _, result in numbered) if ordered else numbered

    def _analyze_many(
        self, pictures: Iterator[Picture], in_flight: int, *, keep_errors: bool, ordered: bool, options: Options
    ) -> Iterator[tuple[int, Analysis | GliogateError]]:
        requests = (partial(self._analysis, picture, options) for picture in pictures)
        return self._stream(requests, in_flight, keep_errors=keep_errors, ordered=ordered)

    def _stream(
        self, requests: Iterator[Callable[[], Request[R]]], in_flight: int, *, keep_errors: bool, ordered: bool
    ) -> Iterator[tuple[int, R | GliogateError]]:
        """Makes requests and sends them, several at a time; yields what became of each, with its place."""
        window: dict[int, _Call[R] | GliogateError] = {}
        done: SimpleQueue[int] = SimpleQueue()

        def take() -> tuple[int, R | GliogateError]:
            index = next(iter(window)) if ordered else done.get()
            return index, self._outcome(window.pop(index), keep_errors=keep_errors)

        try:
            for index, make in enumerate(requests):
                window[index] = call = self._try_send(make)
                if isinstance(call, GliogateError):
                    done.put(index)
                else:
                    call.answer.add_done_callback(lambda _, index=index: done.put(index))  # type: ignore[misc]
                if len(window) == in_flight:
                    yield take()
            while window:
                yield take()
        finally:
            for left in window.values():
                if isinstance(left, _Call):
                    left.cancel()

    def _try_send(self, make: Callable[[], Request[R]]) -> _Call[R] | GliogateError:
        """Makes a request and sends it; where that fails, its error takes its place in the order."""
        try:
            return self._send(make())
        except ClientClosedError:
            raise
        except GliogateError as error:
            return as_value(error)

    def _outcome(self, sent: _Call[R] | GliogateError, *, keep_errors: bool) -> R | GliogateError:
        try:
            if isinstance(sent, GliogateError):
                raise sent
            return self._receive(sent)
        except ClientClosedError:
            raise
        except GliogateError as error:
            if not keep_errors:
                raise
            return as_value(error)

    def _send(self, request: Request[R]) -> _Call[R]:
        self._check_usable()
        answer: Future[tuple[bytes, float]] = Future()
        record = CallRecord(request.id, self.url)
        sent = time.perf_counter()

        def failed(error: BaseException) -> None:
            record.failed(error)
            answer.set_exception(error)

        def ended(call: grpc.Future) -> None:
            if call.code() is grpc.StatusCode.OK:
                latency_s = time.perf_counter() - sent
                record.answered(latency_s)
                answer.set_result((call.result(), latency_s))
            else:
                failed(call)

        def start() -> grpc.Future:
            try:
                call = self._infer.future(**arguments)
            except BaseException as error:
                failed(error)
                raise
            call.add_done_callback(ended)
            return call

        try:
            arguments = self._arguments(request, record)
            started = self._sender.submit(start)
        except BaseException as error:
            record.failed(error)
            self._check_usable()  # Another thread may just have closed the client.
            raise
        return _Call(request, started, answer)

    def _receive(self, call: _Call[R]) -> R:
        try:
            response, latency_s = call.answer.result()
        except grpc.RpcError as error:
            explained = self._explained(error, call.request)
            if self._is_older(explained, call.request):
                return self._receive(self._send(call.request))
            raise explained from error
        except BaseException:  # Ctrl-C: nobody waits for the answer any more.
            call.cancel()
            raise
        return call.request.read(response, latency_s, url=self.url)

    def _explained(self, error: grpc.RpcError, request: Request[Any] | None) -> GliogateError:
        if tells_all(error):
            return self._error(error, request, None)
        return self._error(error, request, self._health(request.patience_s if request else READINESS_TIMEOUT_S))

    def _serves(self, model: Model) -> bool:
        """Whether the server has a model, and it is ready; where it does not say, asking the model itself will tell."""
        question = service_pb2.ModelReadyRequest(name=model.name)
        try:
            return bool(self._triton.ModelReady(question, **self._question()).ready)
        except (grpc.RpcError, ValueError):  # gRPC's own ValueError: another thread closed the client.
            return True

    def _health(self, timeout_s: float = READINESS_TIMEOUT_S) -> Health:
        """Asks the server how it is; one that does not answer, or is no Triton, is not live."""
        triton, asked = self._triton, self._question(timeout_s)
        try:
            is_live = triton.ServerLive(service_pb2.ServerLiveRequest(), **asked).live
            ready = {
                model.name: triton.ModelReady(service_pb2.ModelReadyRequest(name=model.name), **asked).ready
                for model in NEEDED
            }
        except grpc.RpcError as error:
            return health_of(error)
        except ValueError:  # gRPC's: another thread closed the client.
            return Health(is_live=False)
        return Health(is_live, tuple(name for name, is_ready in ready.items() if not is_ready))
