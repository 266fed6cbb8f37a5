"""Calls over HTTP: KServe's REST protocol with binary tensors, for who cannot have gRPC.

What is asked is what gliogate's client would ask, several slices of a call as one request with as many rows.
"""

import ssl
import time
from typing import Final

import numpy as np
from geventhttpclient.response import HTTPParseError
from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from gliogate import RequestError, ServerUnavailableError
from gliogate.contract import ENSEMBLE, IMAGE, NEEDED, SEGMENTED, TUMOR_MASK
from gliogate.wire import AnalysisRequest, DetectionRequest, Health, request_error
from loadtests.callers.sizes import bytes_of
from loadtests.calls import Answer, Call
from loadtests.errors import SettingsError
from loadtests.settings import Settings

CONNECTIONS: Final = 512
"""How many requests may be under way at a time: HTTP/1.1 takes a connection for each."""

_STATUSES: Final = {
    "400": "INVALID_ARGUMENT",
    "401": "UNAUTHENTICATED",
    "403": "PERMISSION_DENIED",
    "499": "CANCELLED",
    "503": "UNAVAILABLE",
    "504": "DEADLINE_EXCEEDED",
}
"""gRPC's names for what Triton says by HTTP; INTERNAL for any other."""

_WAIT_S: Final = 0.1


class HttpCaller:
    """Connections to one server, made as they are needed and kept.

    Raises:
        SettingsError: the address, or what is said of TLS or the token, makes no sense.
    """

    protocol = "http"

    def __init__(self, settings: Settings) -> None:
        tls = settings.tls()
        self._url, self._timeout_s = settings.http_url, settings.timeout_s
        self._headers = {"authorization": f"Bearer {settings.token}"} if settings.token else {}
        try:
            self._triton = InferenceServerClient(
                self._url,
                concurrency=CONNECTIONS,
                connection_timeout=self._timeout_s,
                network_timeout=self._timeout_s,
                ssl=tls is not None,
                ssl_context_factory=(lambda: ssl.create_default_context(cafile=settings.ca)) if tls else None,
            )
        except (ValueError, InferenceServerException) as error:
            raise SettingsError(f"{self._url!r} is no address of an HTTP endpoint: {error}") from error

    def wait_until_ready(self, timeout_s: float) -> None:
        """See `Caller`."""
        deadline = time.monotonic() + timeout_s
        while True:
            health = self._health()
            if health.is_ready:
                return
            if not health.is_worth_waiting or time.monotonic() >= deadline:
                raise self._error(health.status, health.details, health)
            time.sleep(_WAIT_S)

    def ask(self, call: Call, pictures: list[NDArray[np.uint8]]) -> Answer:
        """See `Caller`."""
        # The wire's own requests say what to ask for, so that both protocols ask the same.
        asked = [
            DetectionRequest(picture)
            if call.gate is None
            else AnalysisRequest(picture, gate=call.gate, return_mask_probability=call.mask_probability)
            for picture in pictures
        ]
        image = InferInput(IMAGE.name, [len(asked), *IMAGE.shape], IMAGE.dtype)
        image.set_data_from_numpy(np.stack([one.geometry.to_slice(one.picture) for one in asked]))
        try:
            result = self._triton.infer(
                ENSEMBLE.name,
                [image],
                outputs=[InferRequestedOutput(output.name) for output in asked[0].outputs],
                request_id=asked[0].id,
                timeout=round(1e6 * self._timeout_s),
                parameters=asked[0].parameters,
                headers=self._headers,
            )
            values = {output: result.as_numpy(output.name) for output in asked[0].outputs}
        except Exception as error:
            raise self._explained(error) from error
        opened = suspicious = 0
        if call.gate is not None:
            opened = int(values[SEGMENTED].sum())
        if call.gate == "auto":  # With another nobody named a threshold, and the verdict is "undecided".
            suspicious = opened - int((values[SEGMENTED][:, 0] & values[TUMOR_MASK].any(axis=(1, 2))).sum())
        return Answer(opened, suspicious, len(asked) * sum(map(bytes_of, asked[0].outputs)))

    def close(self) -> None:
        """See `Caller`."""
        self._triton.close()

    def _health(self) -> Health:
        try:
            return Health(
                is_live=self._triton.is_server_live(headers=self._headers),
                not_ready=tuple(
                    model.name for model in NEEDED if not self._triton.is_model_ready(model.name, headers=self._headers)
                ),
            )
        except Exception as error:
            explained = self._explained(error)
            return Health(is_live=False, status=explained.status, details=str(error))

    def _explained(self, error: Exception) -> RequestError:
        """The error that gliogate's client would have raised."""
        match error:
            case InferenceServerException():
                status, details = _STATUSES.get(str(error.status()), "INTERNAL"), str(error.message())
            case TimeoutError():
                status, details = "DEADLINE_EXCEEDED", ""
            case OSError() | EOFError() | HTTPParseError():
                # Nobody listens there, it hung up, or what it speaks is not HTTP.
                details = str(error) or type(error).__name__
                return self._error("UNAVAILABLE", details, Health(is_live=False, details=details))
            case _:
                # It is HTTP, and not what Triton would have answered.
                status, details = "INTERNAL", f"its answer cannot be read: {error!r}"
        return self._error(status, details)

    def _error(self, status: str, details: str, health: Health | None = None) -> RequestError:
        if health and not health.is_live and health.is_worth_waiting:
            message = f"no Triton answers HTTP at {self._url}: is it running, and is that its HTTP port? ({details})"
            return ServerUnavailableError(message, url=self._url, status=status)
        return request_error(status, details, url=self._url, health=health)
