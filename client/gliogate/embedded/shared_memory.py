"""Shared memory: what Triton exchanges tensors with its Python models by, and what this machine or container has of it.

The region of each process grows with the largest batch that it has seen, and never shrinks. Where there is no room for
that, requests fail for as long as Triton runs. So the proxy lets in no more slices at a time than there is room for.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from gliogate.contract import MOST_SLICES
from gliogate.errors import EmbeddedServerError

_FOLDER: Final = Path("/dev/shm")  # noqa: S108  where Linux keeps POSIX shared memory
_MIB: Final = 2**20
_SLICE_BYTES: Final = 256 * 256 * 3

_PROCESSES: Final = 5
"""Of gliogate's models: two of the gate, one of heads, one of each network."""
_AT_START: Final = 2 * _MIB
"""What a process's region has from the start."""
_OF_A_SLICE: Final = 1.4 * _MIB
"""What a slice takes in a process's region, with all that is asked and answered of it: 0.9, and gaps between others."""
_BATCHES: Final = 192 * _MIB
"""For full batches in all processes but that of heads."""
_OF_A_HEADS_SLICE: Final = 0.7 * _MIB
"""What a slice takes in the region of the process that has all slices of a head, with all that is answered."""
_ENOUGH: Final = _BATCHES + int(MOST_SLICES * _OF_A_HEADS_SLICE)
"""For full batches and the largest head."""
_LEAST: Final = 32 * _MIB

_WHAT_TO_DO: Final = "give it 512 MiB: `--shm-size=512m` for Docker, a volume of medium Memory there for Kubernetes"


def room_for_requests() -> int | None:
    """How many bytes of requests may be in Triton at a time, for the shared memory that is free; None for any.

    Raises:
        EmbeddedServerError: there is too little to start; says what to do.
    """
    try:
        free = shutil.disk_usage(_FOLDER).free
    except OSError as error:
        raise EmbeddedServerError(f"Triton needs {_FOLDER}: {error}") from error
    if free >= _ENOUGH:
        return None
    if free < _LEAST:
        raise EmbeddedServerError(
            f"{_FOLDER} has {free / _MIB:.0f} MiB free, and Triton needs {_LEAST / _MIB:.0f} at least: {_WHAT_TO_DO}"
        )
    slices = (free / _PROCESSES - _AT_START) / _OF_A_SLICE
    return int(max(slices, (free - _BATCHES) / _OF_A_HEADS_SLICE)) * _SLICE_BYTES


def warning(room: int) -> str:
    """What there is to know of so little room."""
    return (
        f"warning: {_FOLDER} is small, so that at most {room // _SLICE_BYTES} slices are worked on at a time, "
        f"and requests with more are refused; {_WHAT_TO_DO}"
    )
