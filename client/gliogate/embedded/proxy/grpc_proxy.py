"""gRPC: calls are passed on as bytes, if they may be."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import grpc
import grpc.aio

from .admission import TooLargeError
from .inference import ENDING, Inference, RefusedError
from .settings import MESSAGE_BYTES, NO_TOKEN, Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .progress import Progress

_TRITON: Final = "/inference.GRPCInferenceService/"
INFER: Final = f"{_TRITON}ModelInfer"
HEALTH: Final = {
    f"{_TRITON}ServerLive",
    f"{_TRITON}ServerReady",
    f"{_TRITON}ModelReady",
    "/grpc.health.v1.Health/Check",
}
"""Open to whoever has no token, too: those who ask for health seldom have one."""
NOT_READY: Final = {
    f"{_TRITON}ServerReady": b"",
    f"{_TRITON}ModelReady": b"",
    "/grpc.health.v1.Health/Check": b"\x08\x02",
}
"""What a server that is not ready answers: `ready` is false, `status` is NOT_SERVING."""
DESCRIBING: Final = {
    f"{_TRITON}{name}" for name in ("ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics")
}

CALLS: Final = 2048
"""How many calls may be under way, of all connections."""
STREAMS: Final = 512
"""How many of one connection."""
READING: Final = 32
"""How many requests may be arriving, each with up to `MESSAGE_BYTES`."""
ARRIVES_WITHIN_S: Final = 30.0
"""Whoever sends more slowly keeps others out."""

LOOKS_EVERY_S: Final = 0.1
LAST_S: Final = 2.0
PROBE_TIMEOUT_S: Final = 10.0

_UNLIMITED: Final = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_FULL: Final = ("maximum queue size", "timeout expired")
_INSIDE: Final = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}
_PASSED_ON: Final = ("traceparent", "tracestate")

Context: TypeAlias = Any
"""`grpc.aio.ServicerContext`; grpc comes without types."""
Messages: TypeAlias = Any
"""What a client sends: asynchronously iterable, over bytes."""
Ask: TypeAlias = "Callable[[Any, bytes, Context], Awaitable[bytes]]"


class GrpcProxy:
    """Listens for gRPC, and passes on what may pass."""

    def __init__(self, settings: Settings, inference: Inference, progress: Progress) -> None:
        self._settings = settings
        self._inference = inference
        self._progress = progress
        self._reading = asyncio.Semaphore(READING)
        self._is_draining = False
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
        inference.is_there = self._is_there
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", STREAMS),
                # Two servers on one port would share its requests, and neither know.
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=CALLS,
        )
        self._server.add_generic_rpc_handlers((_Methods(self._handler),))

    def bind(self) -> int:
        """Takes the port, and returns it. Who connects waits until `start`; so no balancer takes this server for ready.

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
        return port

    async def start(self) -> None:
        """Answers."""
        await self._server.start()

    def drain(self) -> None:
        """Takes no more requests; those that are under way may end.

        Not by gRPC's own means: they cancel what comes at that moment, and CANCELLED tells nobody to try elsewhere.
        """
        self._is_draining = True

    async def wait_until_triton_is_gone(self) -> None:
        """Returns when Triton, which was there, cannot be reached any more."""
        while self._is_there() or _is_listened_on(self._settings.grpc_socket):
            await asyncio.sleep(LOOKS_EVERY_S)

    async def probe(self, message: bytes) -> None:
        """Asks Triton itself, where requests tell that it does not answer; its answer ends the doubt."""
        try:
            with self._progress.request():
                await self._triton.unary_unary(INFER)(message, timeout=PROBE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if _is_failure_inside(error):
                self._inference.failed(error.details() or "")
        else:
            self._inference.succeeded()

    async def _is_ending(self) -> bool:
        """Whether Triton ends: of a request it then only says that there is no such model."""
        try:
            await self._triton.unary_unary(f"{_TRITON}ServerReady")(b"", timeout=PROBE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return bool(error.details() == ENDING)
        return False

    def _is_there(self) -> bool:
        return self._triton.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY

    def _handler(self, method: str, metadata: dict[str, str | bytes]) -> grpc.RpcMethodHandler:
        if method not in HEALTH and not self._settings.lets_in(metadata.get("authorization", "")):
            return _refusing(grpc.StatusCode.UNAUTHENTICATED, NO_TOKEN)
        if method == INFER and self._is_draining:
            return _refusing(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        if method == INFER:
            return self._passing(method, self._infer)
        if method in HEALTH | DESCRIBING:
            return self._passing(method, self._pass_on)
        return _refusing(grpc.StatusCode.PERMISSION_DENIED, f"{method} is closed on an embedded server")

    def _passing(self, method: str, ask: Ask) -> grpc.RpcMethodHandler:
        call = self._triton.unary_unary(method)

        async def handle(messages: Messages, context: Context) -> bytes:
            message = await self._read(messages, context)
            if method in NOT_READY and (self._is_draining or self._progress.is_in_doubt):
                return NOT_READY[method]
            try:
                return await ask(call, message, context)
            except grpc.aio.AioRpcError as error:
                await _abort(context, error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))

        # As a stream of one message: so it is this function that has it read.
        return grpc.stream_unary_rpc_method_handler(handle)

    async def _read(self, messages: Messages, context: Context) -> bytes:
        try:
            # Closed, or the collector would do it, which may run on a stack that is full of nested JSON.
            async with asyncio.timeout(ARRIVES_WITHIN_S), self._reading, aclosing(aiter(messages)) as arriving:
                message: bytes
                async for message in arriving:
                    return message
        except TimeoutError:
            late = f"the request did not arrive within {ARRIVES_WITHIN_S:g} s"
            await _abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, late)
        return await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "the call ended without a request")

    async def _pass_on(self, call: Any, message: bytes, context: Context) -> bytes:
        answer: bytes = await call(message, timeout=context.time_remaining(), metadata=_passed_on(context))
        return answer

    async def _infer(self, call: Any, message: bytes, context: Context) -> bytes:
        try:
            async with self._inference.of(len(message), context.time_remaining()):
                answer = await self._pass_on(call, message, context)
        except TooLargeError:
            reason = "the request has more slices than the server's machine has shared memory for: see its first lines"
            await _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
        except RefusedError as error:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, str(error))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.CANCELLED:
                # Nobody did that here, so it is Triton, which ends.
                await _abort(context, grpc.StatusCode.UNAVAILABLE, "Triton has ended")
            if not self._inference.hold_s and not _is_listened_on(self._settings.grpc_socket):
                # This process is about to end with Triton, and a connection that breaks is what balancers understand.
                await asyncio.sleep(LAST_S)
            reason = error.details() or ""
            if error.code() is grpc.StatusCode.NOT_FOUND and await self._is_ending():
                reason = ENDING
            if (reason == ENDING or _is_failure_inside(error)) and self._inference.failed(reason):
                # What is gone may be back: a client may ask again.
                await _abort(context, grpc.StatusCode.UNAVAILABLE, reason)
            raise
        self._inference.succeeded()
        return answer


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    """All methods there are."""

    def __init__(self, handler: Callable[[str, dict[str, str | bytes]], grpc.RpcMethodHandler]) -> None:
        self._handler = handler

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return self._handler(handler_call_details.method, dict(handler_call_details.invocation_metadata or ()))


def _is_listened_on(path: str) -> bool:
    """Whether there is a process behind a Unix socket, be it paused."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # It has too much to do.
            pass
    return True


def _refusing(status: grpc.StatusCode, details: str) -> grpc.RpcMethodHandler:
    async def refuse(_: Messages, context: Context) -> bytes:
        await _abort(context, status, details)  # The message is not even read.

    return grpc.stream_unary_rpc_method_handler(refuse)


async def _abort(context: Context, status: grpc.StatusCode, details: str, metadata: tuple[Any, ...] = ()) -> NoReturn:
    await context.abort(status, details, metadata)
    raise AssertionError


def _passed_on(context: Context) -> list[tuple[str, str | bytes]]:
    """Of a call's metadata what Triton is to know."""
    return [(name, value) for name, value in context.invocation_metadata() or () if name in _PASSED_ON]


def _is_failure_inside(error: grpc.aio.AioRpcError) -> bool:
    """Whether the server is to blame, and not only full: a queue refuses by UNAVAILABLE, too."""
    return error.code() in _INSIDE and not any(words in (error.details() or "") for words in _FULL)
