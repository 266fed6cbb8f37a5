"""What both clients share. Nothing here opens a connection or waits."""

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import index
from typing import TYPE_CHECKING, Any, Final, Literal, Self, SupportsIndex, TypeVar, Unpack

import grpc
import numpy as np

from gliogate.connection import Connection, ConnectionOptions
from gliogate.contract import CHANNELS, QUEUE_SIZE, THICKEST_MM
from gliogate.errors import ClientClosedError, ForkedClientError, GliogateError, InvalidRequestError, RequestError
from gliogate.images import Picture
from gliogate.parts import Part, parts_of
from gliogate.telemetry import CallRecord, status_of
from gliogate.wire import (
    FINAL_STATUSES,
    READINESS_TIMEOUT_S,
    AnalysisRequest,
    DetectionOptions,
    DetectionRequest,
    Health,
    Options,
    PartRequest,
    Request,
    request_error,
)

if TYPE_CHECKING:
    from gliogate.volumes import Volume

E = TypeVar("E", bound=BaseException)
OnError = Literal["raise", "return"]
Progress = Callable[[int, int], object]
"""Is told how many slices are done, and how many there are."""

_NO_OUTPUT = "unexpected inference output"
"""How Triton says that a model has no output of a name."""

WAIT_BETWEEN_QUESTIONS_S = 0.1
"""How long to wait for a server that is not ready before it is asked again."""


@dataclass
class _Life:
    """What becomes of a client; shared with those made of it by `with_options`.

    Attributes:
        process: that made it.
        is_closed: whether it can be used no more.
        has_optional: whether its server has the optional outputs, as far as is known.
    """

    process: int = field(default_factory=os.getpid)
    is_closed: bool = False
    has_optional: bool = True

    def end(self) -> bool:
        """Ends it; whether what is open is now to be closed: once, and by the process that opened it."""
        was_closed, self.is_closed = self.is_closed, True
        return not was_closed and self.process == os.getpid()


class BaseClient:
    """Where the server is, what is asked for unless a call says otherwise, and how errors are told."""

    def __init__(self, url: str | Sequence[str] | None, **options: Unpack[ConnectionOptions]) -> None:
        self._connection = Connection.to(url, **options)
        self._options: Options = {}
        self._life = _Life()

    @property
    def url(self) -> str:
        """The server's address as it was given; several have commas between them."""
        return self._connection.url

    def with_options(self, **options: Unpack[Options]) -> Self:
        """The same client with other defaults: `client.with_options(timeout_s=2).analyze(…)`.

        Both share one connection; closing either closes both.

        Args:
            **options: see `Options`; what is not given stays as it is.

        Raises:
            TypeError: there is no such option.
        """
        if unknown := [name for name in options if name not in Options.__annotations__]:
            raise TypeError(f"with_options() got an unexpected option {unknown[0]!r}")
        other = copy.copy(self)
        other._options = self._options | options
        return other

    def _analysis(self, picture: Picture, options: Options, request_id: str | None = None) -> AnalysisRequest:
        return AnalysisRequest(picture, request_id=request_id, **(self._options | options))

    def _detection(
        self, picture: Picture, options: DetectionOptions, request_id: str | None = None
    ) -> DetectionRequest:
        known = {name: value for name, value in self._options.items() if name in DetectionOptions.__annotations__}
        return DetectionRequest(picture, request_id=request_id, **(known | options))  # type: ignore[arg-type]

    def _parts(self, volume: "Volume", wanted: Sequence[int]) -> list[Part]:
        return parts_of(
            wanted,
            len(volume.slices),
            spacing_mm=spacing_of(volume),
            message_bytes=self._connection.max_message_bytes,
        )

    def _part(self, volume: "Volume", part: Part, options: Options) -> PartRequest:
        return PartRequest(volume.slices, part, spacing_mm=spacing_of(volume), **(self._options | options))

    def _arguments(self, request: Request[Any], record: CallRecord) -> dict[str, Any]:
        """What gRPC's call of `infer_on` is made with."""
        headers = self._connection.headers() | record.headers()
        return {
            "request": request.message(with_optional=self._life.has_optional),
            "timeout": request.remaining_s,
            "metadata": tuple(headers.items()),
        }

    def _is_older(self, error: GliogateError, request: Request[Any]) -> bool:
        """Whether a server refused a request only since it does not have the optional outputs; it is asked without."""
        if not (request.optional and isinstance(error, InvalidRequestError)):
            return False
        is_older = any(f"'{tensor.name}'" in str(error) and _NO_OUTPUT in str(error) for tensor in request.optional)
        if is_older:
            self._life.has_optional = False
        return is_older

    def _question(self, timeout_s: float = READINESS_TIMEOUT_S) -> dict[str, Any]:
        """What gRPC's calls about the server itself are made with, besides the request."""
        return {"timeout": timeout_s, "metadata": tuple(self._connection.headers().items())}

    def _check_usable(self) -> None:
        if self._life.process != os.getpid():
            raise ForkedClientError(f"this client of {self.url} is another process's: make one after the fork")
        if self._life.is_closed:
            raise ClientClosedError(f"this client of {self.url} was closed: make a new one")

    def _error(
        self, error: grpc.RpcError, request: Request[Any] | None, health: Health | None
    ) -> RequestError | ClientClosedError:
        """What is raised where gRPC raised `error`; `health` is None where it `tells_all`."""
        if self._life.is_closed:
            return ClientClosedError("the client was closed while this request was under way")
        route = self._connection.route.note
        return request_error(
            status_of(error), error.details(), url=self.url, request=request, health=health, route=route
        )

    def _not_ready(self, health: Health) -> RequestError:
        """What is raised of a server that is not ready in time."""
        route = self._connection.route.note
        return request_error(health.status, health.details, url=self.url, health=health, route=route)


def health_of(error: grpc.RpcError) -> Health:
    """The health of a server that answers a question about it with an error."""
    return Health(is_live=False, status=status_of(error), details=error.details())


def tells_all(error: grpc.RpcError) -> bool:
    """Whether the status says what happened by itself; behind any other, the server's health tells the cause."""
    return status_of(error) in FINAL_STATUSES


def check_in_flight(in_flight: int, connection: Connection) -> None:
    """Refuses a number of requests under way at a time.

    Raises:
        ValueError: it is no whole number, or more than the servers let wait.
    """
    most = connection.most_in_flight
    # A fraction would never be reached, and everything sent at once.
    if not isinstance(in_flight, SupportsIndex) or not 1 <= index(in_flight) <= most:
        raise ValueError(
            f"in_flight is {in_flight!r}, expected a whole number from 1 to {most}: one server lets {QUEUE_SIZE} wait "
            "and refuses more; several are named by their addresses or by dns:///HOST:PORT"
        )


def check_many(pictures: object, *, on_error: str) -> None:
    """Refuses what `analyze_many` cannot do, before anything is sent.

    Raises:
        ValueError: `on_error` is neither `raise` nor `return`.
        TypeError: `pictures` is a single one, or none at all.
    """
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'return'")
    if _is_one_picture(pictures):
        raise TypeError("analyze_many takes several pictures, this is one: use analyze")
    if not isinstance(pictures, Iterable) and not hasattr(pictures, "__aiter__"):
        raise TypeError(f"analyze_many takes an iterable of pictures, not a {type(pictures).__name__}")


def check_slices(slices: Iterable[int] | None, count: int) -> list[int]:
    """Which slices of a head are asked about, in ascending order; all where None.

    Raises:
        ValueError: one is not there.
    """
    wanted = range(count) if slices is None else sorted({index(each) for each in slices})
    if strangers := [each for each in wanted if not 0 <= each < count]:
        raise ValueError(f"slice {strangers[0]}: the head has the slices 0 to {count - 1}")
    return list(wanted)


def spacing_of(volume: "Volume") -> float | None:
    """Millimetres between a head's slices, as a server takes them; None where the source does not say."""
    spacing = 0.0 if volume.spacing_mm is None else volume.spacing_mm[2]
    # A source that is wrong about it is no reason to refuse its slices. Not above 0 is NaN, too.
    return min(spacing, THICKEST_MM) if spacing > 0 else None


_NO_HEADS: Final = ("NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED")


def goes_slice_by_slice(error: GliogateError) -> bool:
    """Whether a part of a head was refused by a server that may answer its slices one by one.

    An older one does not know the model; a proxy before it, or its memory, may be too small for so large a message.
    """
    # What a proxy says by HTTP's status alone, gRPC has as UNKNOWN with that in words.
    return isinstance(error, RequestError) and (
        error.status in _NO_HEADS or (error.status == "UNKNOWN" and "413" in str(error))
    )


def as_value(error: E) -> E:
    """An error that is not raised but kept: its frames would keep its picture and its request for as long."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


def _is_one_picture(pictures: object) -> bool:
    """Whether this is a picture by itself; an array of several, (N, H, W) or (N, H, W, 3), is not."""
    if isinstance(pictures, np.ndarray):
        return pictures.ndim < 3 or (pictures.ndim == 3 and pictures.shape[2] in (1, len(CHANNELS)))
    return isinstance(pictures, str | os.PathLike)
