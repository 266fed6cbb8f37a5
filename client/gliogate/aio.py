"""The client for asyncio: the same names as `Client`, to be awaited."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

import grpc
import grpc.aio
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
from gliogate.connection import Connection, ConnectionOptions
from gliogate.contract import MODELS, NEEDED, VOLUME, Model
from gliogate.errors import ClientClosedError, ForeignLoopError, GliogateError
from gliogate.images import Picture
from gliogate.parts import IN_FLIGHT as PARTS_IN_FLIGHT
from gliogate.parts import Part
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
T = TypeVar("T")
Pictures = Iterable[Picture] | AsyncIterable[Picture]


class AsyncClient(BaseClient):
    """A connection to a Triton that serves gliogate's models, for one event loop: the one that first asks.

        async with AsyncClient("localhost:8001") as client:
            analysis = await client.analyze("slice.tif")

    Every method does what `Client`'s does. Cancelling a task cancels its request on the server. Pictures are read in
    threads, so the loop goes on meanwhile.

    Args:
        url: see `Client`.
        **options: see `ConnectionOptions`.

    Raises:
        ValueError: an address or an option makes no sense.
    """

    def __init__(self, url: str | Sequence[str] | None = None, **options: Unpack[ConnectionOptions]) -> None:
        super().__init__(url, **options)
        self._line = _Line(self._connection)

    async def __aenter__(self) -> Self:
        """Opens nothing that is not open: the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the client."""
        await self.close()

    async def close(self) -> None:
        """Ends the connection; requests under way fail with `ClientClosedError`. Closing twice is fine."""
        if self._life.end():
            await self._line.close()

    async def is_ready(self) -> bool:
        """See `Client.is_ready`."""
        self._check_usable()
        return (await self._health()).is_ready

    async def wait_until_ready(self, timeout_s: float = TIMEOUT_S) -> None:
        """See `Client.wait_until_ready`."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._check_usable()
            health = await self._health(patience(deadline))
            if health.is_ready:
                return
            if not health.is_worth_waiting or time.monotonic() >= deadline:
                raise self._not_ready(health)
            await asyncio.sleep(WAIT_BETWEEN_QUESTIONS_S)

    async def server_info(self) -> ServerInfo:
        """See `Client.server_info`."""
        self._check_usable()
        operating_point = await self._ask(OperatingPointRequest())
        triton, asked = self._triton, self._question()
        try:
            names = [
                model.name
                for model in MODELS
                if model in NEEDED
                or (await _read(triton.ModelReady(service_pb2.ModelReadyRequest(name=model.name), **asked))).ready
            ]
            return server_info(
                await _read(triton.ServerMetadata(service_pb2.ServerMetadataRequest(), **asked)),
                [
                    await _read(triton.ModelMetadata(service_pb2.ModelMetadataRequest(name=name), **asked))
                    for name in names
                ],
                [await _read(triton.ModelConfig(service_pb2.ModelConfigRequest(name=name), **asked)) for name in names],
                operating_point,
                url=self.url,
            )
        except grpc.RpcError as error:
            raise await self._explained(error, None) from error

    async def detect(
        self, picture: Picture, *, request_id: str | None = None, **options: Unpack[DetectionOptions]
    ) -> Detection:
        """See `Client.detect`."""
        self._check_usable()
        return await self._ask(await asyncio.to_thread(self._detection, picture, options, request_id))

    async def analyze(self, picture: Picture, *, request_id: str | None = None, **options: Unpack[Options]) -> Analysis:
        """See `Client.analyze`."""
        self._check_usable()
        return await self._ask(await asyncio.to_thread(self._analysis, picture, options, request_id))

    async def analyze_volume(
        self,
        volume: "Volume | VolumeSource",
        *,
        in_flight: int = IN_FLIGHT,
        min_component_ml: float = 0.0,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> "VolumeAnalysis":
        """See `Client.analyze_volume`."""
        from gliogate.volumes import Volume, VolumeAnalysis, read_volume
        from gliogate.volumes.analysis import check_droppable

        self._check_usable()
        check_in_flight(in_flight, self._connection)
        head = volume if isinstance(volume, Volume) else await asyncio.to_thread(read_volume, volume)
        check_droppable(head, min_component_ml)
        analyses: dict[int, Analysis] = {}
        async with aclosing(self.analyze_slices(head, in_flight=in_flight, **options)) as slices:
            async for index, analysis in slices:
                analyses[index] = analysis
                if progress is not None:
                    progress(len(analyses), len(head.slices))
        in_order = [analyses[index] for index in range(len(head.slices))]
        return await asyncio.to_thread(VolumeAnalysis.of, head, in_order, min_component_ml=min_component_ml)

    @overload
    def analyze_slices(
        self,
        volume: "Volume",
        *,
        slices: Iterable[int] | None = None,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[Options],
    ) -> AsyncGenerator[tuple[int, Analysis], None]: ...

    @overload
    def analyze_slices(
        self,
        volume: "Volume",
        *,
        slices: Iterable[int] | None = None,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["return"],
        **options: Unpack[Options],
    ) -> AsyncGenerator[tuple[int, Analysis | GliogateError], None]: ...

    def analyze_slices(
        self,
        volume: "Volume",
        *,
        slices: Iterable[int] | None = None,
        in_flight: int = IN_FLIGHT,
        on_error: OnError = "raise",
        **options: Unpack[Options],
    ) -> AsyncGenerator[tuple[int, Analysis | GliogateError], None]:
        """See `Client.analyze_slices`, and for a loop that is left early `analyze_many`."""
        self._check_usable()
        check_many(volume.slices, on_error=on_error)
        check_in_flight(in_flight, self._connection)
        wanted = check_slices(slices, len(volume.slices))
        return self._analyze_slices(volume, wanted, in_flight, keep_errors=on_error == "return", options=options)

    async def _analyze_slices(
        self, volume: "Volume", wanted: list[int], in_flight: int, *, keep_errors: bool, options: Options
    ) -> AsyncGenerator[tuple[int, Analysis | GliogateError], None]:
        left = dict.fromkeys(wanted)
        if await self._serves(VOLUME):
            parts = self._parts(volume, wanted)
            asking = (self._ask_part(volume, part, options) for part in parts)
            at_once = min(in_flight, PARTS_IN_FLIGHT)
            async with aclosing(self._stream(_each(asking), at_once, keep_errors=True, ordered=False)) as outcomes:
                async for number, outcome in outcomes:
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
        one_by_one = (self.analyze(volume.slices[index], **options) for index in indices)
        async with aclosing(
            self._stream(_each(one_by_one), in_flight, keep_errors=keep_errors, ordered=False)
        ) as answers:
            async for number, answer in answers:
                yield indices[number], answer

    async def _ask_part(self, volume: "Volume", part: Part, options: Options) -> tuple[Analysis, ...]:
        return await self._ask(await asyncio.to_thread(self._part, volume, part, options))

    @overload
    def analyze_many(
        self,
        pictures: Pictures,
        *,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["raise"] = "raise",
        ordered: Literal[True] = True,
        **options: Unpack[Options],
    ) -> AsyncIterator[Analysis]: ...

    @overload
    def analyze_many(
        self,
        pictures: Pictures,
        *,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["return"],
        ordered: Literal[True] = True,
        **options: Unpack[Options],
    ) -> AsyncIterator[Analysis | GliogateError]: ...

    @overload
    def analyze_many(
        self,
        pictures: Pictures,
        *,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["raise"] = "raise",
        ordered: Literal[False],
        **options: Unpack[Options],
    ) -> AsyncIterator[tuple[int, Analysis]]: ...

    @overload
    def analyze_many(
        self,
        pictures: Pictures,
        *,
        in_flight: int = IN_FLIGHT,
        on_error: Literal["return"],
        ordered: Literal[False],
        **options: Unpack[Options],
    ) -> AsyncIterator[tuple[int, Analysis | GliogateError]]: ...

    def analyze_many(
        self,
        pictures: Pictures,
        *,
        in_flight: int = IN_FLIGHT,
        on_error: OnError = "raise",
        ordered: bool = True,
        **options: Unpack[Options],
    ) -> AsyncIterator[Analysis | GliogateError] | AsyncIterator[tuple[int, Analysis | GliogateError]]:
        """See `Client.analyze_many`; the pictures may come from an asynchronous iterable too.

        A loop that is left early leaves requests under way until the iterator is closed: put it into
        `contextlib.aclosing`.
        """
        self._check_usable()
        check_many(pictures, on_error=on_error)
        check_in_flight(in_flight, self._connection)
        asking = (self.analyze(picture, **options) async for picture in _each(pictures))
        numbered = self._stream(asking, in_flight, keep_errors=on_error == "return", ordered=ordered)
        return _without_numbers(numbered) if ordered else numbered

    async def _stream(
        self, asking: AsyncIterator[Coroutine[Any, Any, R]], in_flight: int, *, keep_errors: bool, ordered: bool
    ) -> AsyncGenerator[tuple[int, R | GliogateError], None]:
        """Waits for several answers at a time; yields what became of each, with its place."""
        window: dict[asyncio.Task[R], int] = {}

        async def take() -> tuple[int, R | GliogateError]:
            if ordered:
                task = next(iter(window))
                await asyncio.wait((task,))
            else:
                done, _ = await asyncio.wait(window, return_when=asyncio.FIRST_COMPLETED)
                task = done.pop()
            index = window.pop(task)
            try:
                return index, task.result()
            except ClientClosedError:
                raise
            except GliogateError as error:
                if not keep_errors:
                    raise
                return index, as_value(error)

        try:
            index = 0
            async for answer in asking:
                window[asyncio.create_task(answer)] = index
                index += 1
                if len(window) == in_flight:
                    yield await take()
            while window:
                yield await take()
        finally:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)

    @property
    def _triton(self) -> service_pb2_grpc.GRPCInferenceServiceStub:
        return self._line.opened().triton

    async def _ask(self, request: Request[R]) -> R:
        self._check_usable()
        record = CallRecord(request.id, self.url)
        sent = time.perf_counter()
        try:
            response = await self._line.opened().infer(**self._arguments(request, record))
        except BaseException as error:
            record.failed(error)
            if isinstance(error, grpc.RpcError):
                explained = await self._explained(error, request)
                if self._is_older(explained, request):
                    return await self._ask(request)
                raise explained from error
            # So asyncio says it both where this task is to end and where the channel was closed.
            if isinstance(error, asyncio.CancelledError) and self._life.is_closed:
                raise ClientClosedError("the client was closed while this request was under way") from None
            raise
        latency_s = time.perf_counter() - sent
        record.answered(latency_s)
        return request.read(response, latency_s, url=self.url)

    async def _explained(self, error: grpc.RpcError, request: Request[Any] | None) -> GliogateError:
        if tells_all(error):
            return self._error(error, request, None)
        return self._error(error, request, await self._health(request.patience_s if request else READINESS_TIMEOUT_S))

    async def _serves(self, model: Model) -> bool:
        """See `Client._serves`."""
        question = service_pb2.ModelReadyRequest(name=model.name)
        try:
            return bool((await _read(self._triton.ModelReady(question, **self._question()))).ready)
        except grpc.RpcError:
            return True

    async def _health(self, timeout_s: float = READINESS_TIMEOUT_S) -> Health:
        """Asks the server how it is; one that does not answer, or is no Triton, is not live."""
        triton, asked = self._triton, self._question(timeout_s)
        try:
            is_live = (await _read(triton.ServerLive(service_pb2.ServerLiveRequest(), **asked))).live
            ready = {
                name: (await _read(triton.ModelReady(service_pb2.ModelReadyRequest(name=name), **asked))).ready
                for name in (model.name for model in NEEDED)
            }
        except grpc.RpcError as error:
            return health_of(error)
        return Health(is_live, tuple(name for name, is_ready in ready.items() if not is_ready))


class _Line:
    """gRPC's channel, which belongs to the event loop that it is opened in: the one that first asks.

    So a client may be made before there is a loop.

    Attributes:
        triton: Triton's calls.
        infer: the one of `infer_on`.
    """

    triton: service_pb2_grpc.GRPCInferenceServiceStub
    infer: Any

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loop: asyncio.AbstractEventLoop | None = None

    def opened(self) -> Self:
        """Itself, open.

        Raises:
            ForeignLoopError: another event loop opened it.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._channel = self._connection.channel(grpc.aio)
            self.triton = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
            self.infer = infer_on(self._channel)
        elif self._loop is not loop:
            raise ForeignLoopError(f"this client of {self._connection.url} is another event loop's: make one in each")
        return self

    async def close(self) -> None:
        """Closes what was opened."""
        if self._loop:
            self.opened()
            await self._channel.close()


async def _read(answer: Awaitable[Any]) -> Any:
    """What a call answers. One that cannot be read is nothing to gRPC here, and an error where there is no asyncio."""
    message = await answer
    if message is None:
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, "its answer cannot be read")
    return message


async def _each(things: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(things, AsyncIterable):
        async for thing in things:
            yield thing
    else:
        for thing in things:
            yield thing


async def _without_numbers(
    numbered: AsyncIterator[tuple[int, Analysis | GliogateError]],
) -> AsyncIterator[Analysis | GliogateError]:
    async with aclosing(numbered) as results:  # type: ignore[type-var]
        async for _, result in results:
            yield result
