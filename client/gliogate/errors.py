"""What can go wrong, as one tree.

    GliogateError
    ├── ImageError                   a picture cannot be read, or cannot be a slice
    ├── MissingExtraError            what was asked for needs an extra that is not installed
    ├── EmbeddedServerError          the embedded Triton did not start, or died
    ├── ClientClosedError            a client was used after it was closed
    ├── ForkedClientError            a client was used in a process forked from the one that made it
    ├── ForeignLoopError             an `AsyncClient` was used in two event loops
    └── RequestError                 the server could not be asked, refused, or gave no answer that makes sense
        ├── AuthenticationError      the server, or what stands before it, does not let this client in
        ├── InvalidRequestError      the request breaks the wire contract
        ├── InvalidResponseError     the answer does
        ├── DeadlineExceededError    no answer within the time allowed
        ├── ModelNotReadyError       the server is up, a model of gliogate's is not
        └── ServerUnavailableError   nobody there, gone in mid-request, or overloaded

`RequestError` carries the server's address, the request's id, the gRPC status, and whether a retry may help.
"""

from functools import partial
from typing import Any


class GliogateError(Exception):
    """Root of every error that gliogate raises on purpose."""


class ImageError(GliogateError, ValueError):
    """A picture cannot be read, or has a shape, type or value that no slice can have."""


class MissingExtraError(GliogateError, ImportError):
    """What was asked for needs a library that is not installed; the message names the extra that brings it."""


class EmbeddedServerError(GliogateError, RuntimeError):
    """The embedded Triton did not start, or died; the message holds Triton's own reason."""


class ClientClosedError(GliogateError, RuntimeError):
    """A client was used after it was closed."""


class ForkedClientError(GliogateError, RuntimeError):
    """A client was used in a process forked from the one that made it, where its connection would hang."""


class ForeignLoopError(GliogateError, RuntimeError):
    """An `AsyncClient` was used in another event loop than the one that it first asked from."""


class RequestError(GliogateError):
    """The server could not be asked, refused, or gave no answer that makes sense.

    Attributes:
        url: the server's address, as the client was given it.
        request_id: the id that the server logs for this request; empty where none was sent.
        status: the name of the gRPC status (`UNAVAILABLE`, `INVALID_ARGUMENT`, …).
        may_retry: the same request may succeed later.
    """

    may_retry = False

    def __init__(self, message: str, *, url: str, request_id: str = "", status: str = "UNKNOWN") -> None:
        super().__init__(message)
        self.url = url
        self.request_id = request_id
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        """How it comes back from another process, as of a pool; by itself an exception forgets its keywords."""
        told = partial(type(self), url=self.url, request_id=self.request_id, status=self.status)
        return told, self.args


class AuthenticationError(RequestError):
    """The server, or what stands before it, does not let this client in: no token, or not one that it knows."""


class InvalidRequestError(RequestError):
    """The server read the request and refused it: a tensor, parameter or value breaks the wire contract."""


class InvalidResponseError(RequestError):
    """The server answered what breaks the wire contract: a tensor is missing, or has another type, shape or value.

    Other models than gliogate's are served there, or the server is broken inside. The `status` is OK: that of the call.
    """


class DeadlineExceededError(RequestError):
    """No answer came within the time allowed."""

    may_retry = True


class ModelNotReadyError(RequestError):
    """The server is up, but a model that gliogate needs is missing or not loaded."""

    may_retry = True


class ServerUnavailableError(RequestError):
    """Nobody listens there, the server went away in mid-request, or it is overloaded."""

    may_retry = True
