"""Signals to the Triton behind an embedded server: what stops, kills or pauses it."""

import os
from pathlib import Path

from gliogate.embedded import EmbeddedServer


def signal_triton(server: EmbeddedServer, number: int) -> None:
    """Sends a signal to the Triton of a server, found by its port."""
    os.kill(pid_of_triton(server), number)


def pid_of_triton(server: EmbeddedServer) -> int:
    """The process of a server's Triton."""
    port = f"--grpc-port={server.url.rpartition(':')[2]}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[0].endswith(b"tritonserver") and port in arguments:
            return int(process.name)
    raise LookupError(f"no Triton with {port!r}")
