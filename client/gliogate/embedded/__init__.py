"""A real Triton on this machine, no container: the `tritonserver` of the PyPI wheel `nvidia-pytriton`.

    from gliogate import Client
    from gliogate.embedded import EmbeddedServer, find_model_repository

    with EmbeddedServer(find_model_repository()) as server, Client(server.url) as client:
        print(client.analyze("slice.tif"))

It needs Linux on x86-64 and the extra `gliogate[embedded]`.
"""

from gliogate.embedded.foreground import serve
from gliogate.embedded.repository import find_model_repository
from gliogate.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer", "find_model_repository", "serve"]
