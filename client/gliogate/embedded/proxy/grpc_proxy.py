"""gRPC: calls are passed on as bytes, if they may be."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import grpc
import grpc.aio

from .admission import Admission, TooLargeError
from .settings import MESSAGE_BYTES, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from .progress import Progress

_TRITON: Final = "/inference.GRPCInferenceService/"
INFER: Final = f"{_TRITON}ModelInfer"
STREAM: Final = f"{_TRITON}ModelStreamInfer"
HEALTH: Final = {
    f"{_TRITON}ServerLive",
    f"{_TRITON}ServerReady",
    f"{_TRITON}ModelReady",
    "/grpc.health.v1.Health/Check",
}
"""Open to whoever has no token, too: those who ask for health seldom have one."""
NOT_READY: Final = {f"{_TRITON}ServerReady": b"", "/grpc.health.v1.Health/Check": b"\x08\x02"}
"""What a server that is not ready answers: `ready` is false, `status` is NOT_SERVING."""
DESCRIBING: Final = {
    f"{_TRITON}{name}" for name in ("ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics")
}

CALLS: Final = 1024
"""How many calls may be under way. Triton's queue refuses most of so many in its own words."""

RETURNING: Final = 32
"""Of those that waited for Triton, how many may be in it at a time: all at once would fill its queue."""

_UNLIMITED: Final = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_GONE: Final = "is not healthy"
"""What Triton says of a process of its own that has ended or does not move."""
_FULL: Final = ("maximum queue size", "timeout expired")
_INSIDE: Final = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}

Context: TypeAlias = Any
"""`grpc.aio.ServicerContext`; grpc comes without types."""


class GrpcProxy:
    """Listens for gRPC, and passes on what may pass.

    Attributes:
        hold_s: see `Settings`.
        is_whole: set while Triton has lost none of its processes; requests wait where it has.
        on_broken: is called when it has.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.hold_s = settings.hold_s
        self._returning = asyncio.Semaphore(RETURNING)
        self.is_whole = asyncio.Event()
        self.is_whole.set()
        self.on_broken: Callable[[], None] = _do_nothing
        self._settings = settings
        self._progress = progress
        self._admission = Admission(settings.bytes_at_once)
        self._triton = grpc.aio.insecure_channel(
            f"unix:{settings.grpc_socket}",
            options=[
                *_UNLIMITED,
                # A Triton that is started again is found as soon as it is there; one that is paused is waited for.
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 20_000),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_send_message_length", -1),
                # Two servers on one port would share its requests, and neither know.
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=CALLS,
        )
        self._server.add_generic_rpc_handlers((_Methods(self._handler),))

    async def start(self) -> int:
        """Starts to listen; returns the port.

        Raises:
            RuntimeError: it cannot.
        """
        address = f"{self._settings.host}:{self._settings.grpc_port}"
        if self._settings.certificate:
            pair = self._settings.private_key.encode(), self._settings.certificate.encode()
            authority = self._settings.client_authority.encode() or None
            credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
            port: int = self._server.add_secure_port(address, credentials)
        else:
            port = self._server.add_insecure_port(address)
        await self._server.start()
        return port

    async def stop(self) -> None:
        """Ends all calls."""
        await self._server.stop(None)
        await self._triton.close()

    def _handler(self, method: str, metadata: dict[str, str | bytes]) -> grpc.RpcMethodHandler:
        if method not in HEALTH and not self._settings.lets_in(metadata.get("authorization", "")):
            return _refusing(grpc.StatusCode.UNAUTHENTICATED, "this server asks for a token, and for the right one")
        if method == INFER:
            return grpc.unary_unary_rpc_method_handler(self._passing(method, self._infer))
        if method == STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        if self._progress.is_stalled and method in NOT_READY:
            return grpc.unary_unary_rpc_method_handler(_answering(NOT_READY[method]))
        if method in HEALTH | DESCRIBING:
            return grpc.unary_unary_rpc_method_handler(self._passing(method, self._ask))
        return _refusing(grpc.StatusCode.PERMISSION_DENIED, f"{method} is closed on an embedded server")

    def _passing(
        self, method: str, ask: Callable[..., Awaitable[bytes]]
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        call = self._triton.unary_unary(method)

        async def handle(message: bytes, context: Context) -> bytes:
            try:
                return await ask(call, message, context)
            except grpc.aio.AioRpcError as error:
                await _abort(context, error)

        return handle

    async def _ask(self, call: Any, message: bytes, context: Context) -> bytes:
        answer: bytes = await call(message, timeout=context.time_remaining(), metadata=_passed_on(context))
        return answer

    async def _infer(self, call: Any, message: bytes, context: Context) -> bytes:
        has_waited = await self._wait_for_triton(context)
        try:
            async with self._returning if has_waited else nullcontext(), self._admission.of(len(message)):
                with self._progress.request():
                    answer = await self._ask(call, message, context)
        except TooLargeError:
            reason = "the request has more slices than the server's machine has shared memory for: see its first lines"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
        except grpc.aio.AioRpcError as error:
            if _GONE in (error.details() or ""):
                self._break(error.details())
                # One that has gone away, and may be back: a client may ask again.
                await context.abort(grpc.StatusCode.UNAVAILABLE, error.details())
            if _is_failure_inside(error):
                self._progress.failed()
            raise
        self._progress.answered()
        return answer

    async def _stream(self, messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        call = self._triton.stream_stream(STREAM)(
            messages, timeout=context.time_remaining(), metadata=_passed_on(context)
        )
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as error:
            await _abort(context, error)

    def _break(self, reason: str) -> None:
        """Has Triton started again, if it is to be, and further requests wait for that."""
        if self.hold_s and not self._progress.broken:
            self._progress.broken = reason
            self.is_whole.clear()
            self.on_broken()

    async def _wait_for_triton(self, context: Context) -> bool:
        """Waits for a Triton that is being started again, so that its clients need not know; says whether it had to."""
        is_there = self._triton.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY
        if self.hold_s and not (is_there and self.is_whole.is_set()):
            left = context.time_remaining()
            try:
                async with asyncio.timeout(self.hold_s if left is None else min(self.hold_s, left)):
                    await self.is_whole.wait()
                    await self._triton.channel_ready()
            except TimeoutError:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Triton is being started again, and is not there yet")
            return True
        return False


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    """All methods there are."""

    def __init__(self, handler: Callable[[str, dict[str, str | bytes]], grpc.RpcMethodHandler]) -> None:
        self._handler = handler

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return self._handler(handler_call_details.method, dict(handler_call_details.invocation_metadata or ()))


def _answering(answer: bytes) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def handle(_: bytes, __: Context) -> bytes:
        return answer

    return handle


def _do_nothing() -> None: ...


def _refusing(status: grpc.StatusCode, details: str) -> grpc.RpcMethodHandler:
    async def refuse(_: AsyncIterator[bytes], context: Context) -> None:
        # The message is not even read.
        await context.abort(status, details)

    return grpc.stream_unary_rpc_method_handler(refuse)


async def _abort(context: Context, error: grpc.aio.AioRpcError) -> NoReturn:
    """Fails a call as Triton did."""
    await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
    raise AssertionError


def _passed_on(context: Context) -> list[tuple[str, str | bytes]]:
    """A call's metadata without what is the connection's own, and without the token, which is not Triton's to know."""
    metadata = context.invocation_metadata() or ()
    return [
        (name, value) for name, value in metadata if name not in ("user-agent", "authorization") and name[:5] != "grpc-"
    ]


def _is_failure_inside(error: grpc.aio.AioRpcError) -> bool:
    """Whether the server is to blame, and not only full: a queue refuses by UNAVAILABLE, too."""
    return error.code() in _INSIDE and not any(words in (error.details() or "") for words in _FULL)
