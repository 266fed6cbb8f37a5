"""gliogate finds brain tumors in MRI slices and outlines them, served by Triton Inference Server.

    from gliogate import Client

    with Client("localhost:8001") as client:
        client.wait_until_ready()
        analysis = client.analyze("slice.tif")
        print(analysis.verdict, analysis.tumor_probability, analysis.area_px)
        picture = analysis.overlay()

No server at hand? `gliogate serve` starts one, and so does `gliogate.embedded.EmbeddedServer`.
For research use only; not a medical device.
"""

from typing import TYPE_CHECKING

from gliogate.aio import AsyncClient
from gliogate.client import Client
from gliogate.connection import TLS, ConnectionOptions, Keepalive, Retries
from gliogate.errors import (
    AuthenticationError,
    ClientClosedError,
    DeadlineExceededError,
    EmbeddedServerError,
    ForeignLoopError,
    ForkedClientError,
    GliogateError,
    ImageError,
    InvalidRequestError,
    InvalidResponseError,
    MissingExtraError,
    ModelNotReadyError,
    RequestError,
    ServerUnavailableError,
)
from gliogate.images import Picture
from gliogate.results import Analysis, BoundingBox, Detection, ModelInfo, OperatingPoint, Reliability, ServerInfo
from gliogate.scans import Scan, find_scans
from gliogate.wire import DetectionOptions, Options

__all__ = [
    "TLS",
    "Analysis",
    "AsyncClient",
    "AuthenticationError",
    "BoundingBox",
    "Client",
    "ClientClosedError",
    "ConnectionOptions",
    "DeadlineExceededError",
    "Detection",
    "DetectionOptions",
    "EmbeddedServerError",
    "ForeignLoopError",
    "ForkedClientError",
    "GliogateError",
    "ImageError",
    "InvalidRequestError",
    "InvalidResponseError",
    "Keepalive",
    "MissingExtraError",
    "ModelInfo",
    "ModelNotReadyError",
    "OperatingPoint",
    "Options",
    "Picture",
    "Reliability",
    "RequestError",
    "Retries",
    "Scan",
    "ServerInfo",
    "ServerUnavailableError",
    "find_scans",
]

__version__: str
"""Of the distribution."""

if not TYPE_CHECKING:  # It would have type checkers believe in any name.

    def __getattr__(name: str) -> str:
        # Looked up when it is asked for: that takes longer than much of the import.
        if name == "__version__":
            from importlib.metadata import version

            return version("gliogate")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
