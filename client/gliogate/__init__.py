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

from gliogate.client import Client
from gliogate.errors import (
    ClientClosedError,
    DeadlineExceededError,
    EmbeddedServerError,
    GliogateError,
    ImageError,
    InvalidRequestError,
    ModelNotReadyError,
    RequestError,
    ServerUnavailableError,
)
from gliogate.images import Picture
from gliogate.results import Analysis, BoundingBox
from gliogate.wire import Options

__all__ = [
    "Analysis",
    "BoundingBox",
    "Client",
    "ClientClosedError",
    "DeadlineExceededError",
    "EmbeddedServerError",
    "GliogateError",
    "ImageError",
    "InvalidRequestError",
    "ModelNotReadyError",
    "Options",
    "Picture",
    "RequestError",
    "ServerUnavailableError",
]
