"""Slices that a server on this machine reads out of memory that it shares with the client: `shared_memory=True`.

Each request under way has a slot, a file in /dev/shm of one slice. Triton maps it when it is registered, and at once
its name is removed: nothing stays there, however the client ends. What a client that is killed leaves is registrations,
with their memory, in the server. The next client on the machine unregisters them; names tell whose they are.

A slot takes the next slice when its request was answered. After a request that was not (cancelled, its deadline over,
the connection lost) the server may read on: the slot is given up, and unregistered when the client needs the next new
one or is closed. Triton, from 24.09 on, refuses that, or puts it off, as long as it reads.

Only slices go this way. Masks could come back so, with no gain that could be measured; but then an attempt whose
connection broke, and that gRPC repeated, could write into the slot of a later request. As it is, it can at worst read
there, and nobody receives what it makes of that.

It is the host's memory, on a server with a GPU, too. Slices come out of files, so they cross to the GPU once, whoever
has them copied; CUDA's shared memory would move that copy to the client, and ask each client for a context on the GPU.
"""

import itertools
import mmap
import os
import re
import secrets
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from gliogate.connection import REGISTER
from gliogate.contract import IMAGE
from gliogate.errors import SharedMemoryError
from gliogate.telemetry import status_of
from gliogate.wire import FINAL_STATUSES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gliogate.wire import Request

Step = tuple[str, Any]
"""One of Triton's calls, by name, and what it is asked. The client makes it, and sends back the answer or its error."""

SLOT_BYTES: Final = prod(IMAGE.shape)

_FOLDER: Final = Path("/dev/shm")  # noqa: S108  where Linux keeps POSIX shared memory

_slots: "WeakValueDictionary[str, Slot]" = WeakValueDictionary()
"""Those of this process, by name."""


class Slot:
    """Memory for one slice, which a server can map by its name.

    Attributes:
        name: in /dev/shm, and in the server.
        pixels: UINT8 [256, 256, 3].

    Raises:
        OSError: there is no such memory, or none left.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        _slots[name] = self
        file = os.open(_FOLDER / name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            # Memory that is short is told of now, not with a signal to whoever writes to it first.
            os.posix_fallocate(file, 0, SLOT_BYTES)
            memory = mmap.mmap(file, SLOT_BYTES)
        except BaseException:
            self.remove_name()
            raise
        finally:
            os.close(file)
        self.pixels: NDArray[np.uint8] = np.frombuffer(memory, np.uint8).reshape(IMAGE.shape)

    def remove_name(self) -> None:
        """Leaves the memory to those that have mapped it."""
        (_FOLDER / self.name).unlink(missing_ok=True)


class Slots:
    """The slots of one client. Threads may share them.

    Args:
        url: of the server, as errors say it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._free: list[Slot] = []
        process = os.getpid()
        self._prefix = f"{_machine()}.{process}.{_started(process)}.{secrets.token_hex(8)}."
        self._numbers = itertools.count()

    def take(self, request: "Request[Any]") -> Generator[Step, Any, None]:
        """Gives a request a slot: one that is free, or else a new one.

        Raises:
            SharedMemoryError: there is no memory left, or the server cannot or may not share it.
            grpc.RpcError: the server did not answer.
        """
        with suppress(IndexError):
            request.slot = self._free.pop()
            return
        yield from _unregister(_is_left)
        try:
            slot = Slot(f"{self._prefix}{next(self._numbers)}")
        except OSError as error:
            raise SharedMemoryError(f"shared_memory=True: {error}", url=self._url, request_id=request.id) from error
        question = service_pb2.SystemSharedMemoryRegisterRequest(
            name=slot.name, key=f"/{slot.name}", byte_size=SLOT_BYTES
        )
        try:
            yield REGISTER, question
        except grpc.RpcError as error:
            status = status_of(error)
            if status in FINAL_STATUSES:
                raise
            if status != "ALREADY_EXISTS":  # gRPC sent it again, and the first time it had arrived.
                yield "ServerLive", service_pb2.ServerLiveRequest()  # Where nobody lives, that is the error.
                raise SharedMemoryError(
                    f"shared_memory=True: the server at {self._url} cannot read this client's memory: is it on this "
                    f"machine, with the same /dev/shm, and is its shared-memory protocol open? ({error.details()})",
                    url=self._url,
                    request_id=request.id,
                    status=status,
                ) from error
        finally:
            slot.remove_name()
        request.slot = slot

    def free(self, request: "Request[Any]") -> None:
        """Takes back the slot of a request that was answered."""
        if request.slot:
            self._free.append(request.slot)
            request.slot = None

    def is_lost(self, request: "Request[Any]", error: grpc.RpcError) -> Generator[Step, Any, bool]:
        """Whether a request failed because the server does not know its slot, as one that was started anew does not.

        Whatever the answer, the slot is given up.

        Raises:
            SharedMemoryError: it did so twice.
        """
        slot, request.slot = request.slot, None
        if slot is None or status_of(error) != "NOT_FOUND":
            return False
        try:
            if slot.name in (yield _STATUS).regions:
                return False
        except grpc.RpcError:
            return False
        if request.lost_slot:
            raise SharedMemoryError(
                f"shared_memory=True: the server at {self._url} does not know what was registered with it: are there "
                "several behind that address?",
                url=self._url,
                request_id=request.id,
                status="NOT_FOUND",
            ) from error
        request.lost_slot = True
        self._free.clear()
        return True

    def close(self) -> Generator[Step, Any, None]:
        """Unregisters every slot, if there were any."""
        self._free.clear()
        if next(self._numbers) > 0:
            yield from _unregister(lambda name: name.startswith(self._prefix) or _is_left(name))


_STATUS: Final[Step] = ("SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest())


def _unregister(is_left: Callable[[str], bool]) -> Generator[Step, Any, None]:
    """Removes slots, in the server and from /dev/shm, as far as the server answers."""
    for path in _FOLDER.glob(f"{_machine()}.*"):  # Their clients were killed before they removed the name.
        with suppress(OSError):  # Another user's.
            if _is_left(path.name):
                path.unlink()
    with suppress(grpc.RpcError):
        for name in filter(is_left, (yield _STATUS).regions):
            with suppress(grpc.RpcError):  # Still being read: another time.
                yield "SystemSharedMemoryUnregister", service_pb2.SystemSharedMemoryUnregisterRequest(name=name)


def _is_left(name: str) -> bool:
    """Whether a name is that of a slot that nobody has any more: its process is gone, or has given it up."""
    parts = re.fullmatch(rf"{re.escape(_machine())}\.(\d+)\.(\d+)\..+", name)
    if not parts:
        return False
    process, started = map(int, parts.groups())
    return name not in _slots if process == os.getpid() else _started(process) != started


@cache
def _machine() -> str:
    """What begins the names of those clients that can tell whether each other's processes live."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"gliogate-client.{boot}.{Path('/proc/self/ns/pid').stat().st_ino}"


def _started(process: int) -> int | None:
    """When a process was started, in ticks from the machine's start; None where it is gone."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if state in b"XZ" else int(fields[18])
