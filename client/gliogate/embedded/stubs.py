"""Triton's Python stubs: one process for each instance of a model, in which a Python backend runs it.

Triton starts none anew: an instance whose stub has died fails every request from then on, and Triton calls the model
ready all the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PROCESSES: Final = Path("/proc")
_PROGRAM: Final = "triton_python_backend_stub"
_INSTANCE: Final = -2
"""Which of a stub's arguments names the instance: MODEL_GROUP_NUMBER."""


def stubs_of(server_id: str) -> dict[int, str]:
    """The instance of each running stub of a server, by its process id.

    Args:
        server_id: what the server's shared memory regions begin with; its stubs are given it.
    """
    found = {}
    for process in _PROCESSES.glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_text(errors="replace").split("\0")[:-1]
        except OSError:  # It has ended meanwhile.
            continue
        if arguments and arguments[0].endswith(_PROGRAM) and any(a.startswith(server_id) for a in arguments):
            found[int(process.name)] = arguments[_INSTANCE]
    return found


def has_died(process_id: int) -> bool:
    """Whether a stub has ended, and Triton took no notice; that of a model that it unloads is gone altogether."""
    try:
        stat = (_PROCESSES / str(process_id) / "stat").read_text(errors="replace")
    except OSError:
        return False
    # The name, which may hold anything, is in parentheses; the state comes after it.
    return stat.rpartition(")")[2].split()[0] in "ZX"
