"""Whatever makes calls: over gRPC with gliogate's own client, and over HTTP as KServe's REST protocol has it."""

from loadtests.callers.over_grpc import GrpcCaller
from loadtests.callers.over_http import HttpCaller
from loadtests.calls import Caller
from loadtests.settings import Settings

__all__ = ["GrpcCaller", "HttpCaller", "make_caller"]


def make_caller(settings: Settings) -> Caller:
    """The caller for the protocol that was asked for.

    Raises:
        SettingsError: the address, or what is said of TLS or the token, makes no sense.
    """
    return HttpCaller(settings) if settings.protocol == "http" else GrpcCaller(settings)
