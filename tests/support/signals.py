"""Signals to the processes behind an embedded server: what stops, kills or pauses them."""

import os
import signal
from pathlib import Path

from support.waiting import wait_for

from gliogate.embedded import EmbeddedServer
from gliogate.embedded.stubs import stubs_of


def name_of(server: EmbeddedServer) -> str:
    """What all processes, files and memory regions of a server's Triton are named by."""
    return Path(server.triton_url).parent.name


def signal_triton(server: EmbeddedServer, number: int) -> None:
    """Sends a signal to the Triton of a server; returns from SIGSTOP when it has stopped.

    One thread takes the signal and stops the others: where processors are scarce, they answer meanwhile.
    """
    pid = pid_of_triton(server)
    os.kill(pid, number)
    if number == signal.SIGSTOP:
        wait_for(lambda: _is_stopped(pid))


def _is_stopped(pid: int) -> bool:
    """Whether every thread of a process is."""
    stats = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat"))
    return all(stat.rpartition(")")[2].split()[0] in "TX" for stat in stats)


def signal_server(server: EmbeddedServer, number: int) -> None:
    """Sends a signal to a server as a whole, as what befalls a machine: the proxy and Triton."""
    os.kill(pid_of_proxy(server), number)
    signal_triton(server, number)


def pid_of_proxy(server: EmbeddedServer) -> int:
    """The process of a server's proxy."""
    assert server._running is not None
    return server._running._proxy._process.pid


def pid_of_triton(server: EmbeddedServer) -> int:
    """The process of a server's Triton."""
    name = f"--id={name_of(server)}"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue
        if arguments[0].endswith("tritonserver") and name in arguments:
            return int(process.name)
    raise LookupError(f"no Triton with {name}")


def models_of(server: EmbeddedServer) -> dict[int, str]:
    """The processes of a server's models, with the instances that they run."""
    return stubs_of(name_of(server))
