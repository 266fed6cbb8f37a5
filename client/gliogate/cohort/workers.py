"""Processes that live on, each with a connection of its own, and do one study after the other.

A decoder that brings down its process, or takes all memory, costs the study that it read, and no other: the process is
replaced. When whoever started them is gone, whatever took it, they end.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, cast

from gliogate.client import Client
from gliogate.cohort.analysis import OutputLostError, ServerLostError, Telling, Wanted, analyze_study, wait_for_server
from gliogate.cohort.results import Result
from gliogate.cohort.studies import Study
from gliogate.connection import ConnectionOptions
from gliogate.errors import GliogateError

# Not for the workers, who end when they are told to: Ctrl-C goes to all processes of a terminal, and Slurm's SIGTERM to
# all of a step.
_NOT_THEIRS: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_PR_SET_PDEATHSIG: Final = 1
_TELLS_EVERY_S: Final = 0.2


@dataclass(frozen=True)
class Address:
    """Whom the workers ask.

    Attributes:
        url: of the server.
        options: of the connection.
    """

    url: str
    options: ConnectionOptions


@dataclass(frozen=True)
class Started:
    """A worker is there, and so is the server."""


@dataclass(frozen=True)
class Slices:
    """How far a study is."""

    total: int
    done: int


@dataclass(frozen=True)
class Waiting:
    """Whether the server is waited for."""

    is_so: bool


@dataclass(frozen=True)
class Lost:
    """Nothing can be done any more: the server is gone, or the output."""

    reason: str


@dataclass(frozen=True)
class Died:
    """The process has ended."""

    reason: str


Event = Started | Slices | Waiting | Lost | Died | Result


@dataclass(eq=False)
class Worker:
    """A process, as who hands out the work sees it.

    Attributes:
        process: the process.
        pipe: to it.
        study: what it does, or will when it has connected; None where it waits for work.
        slices: of the study, all and done.
        has_started: whether it has connected.
    """

    process: BaseProcess
    pipe: Connection
    study: Study | None = None
    slices: Slices = field(default_factory=lambda: Slices(0, 0))
    has_started: bool = False
    _spent_s: float = 0.0
    _since: float | None = None

    @classmethod
    def start(cls, address: Address, wanted: Wanted, scratch: Path) -> "Worker":
        """Starts a process."""
        ours, theirs = get_context("spawn").Pipe()
        process = get_context("spawn").Process(
            target=work, args=(theirs, os.getpid(), address, wanted, scratch), daemon=True, name="gliogate-worker"
        )
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_THEIRS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        return cls(process, ours)

    def give(self, study: Study) -> None:
        """Hands it a study."""
        self.study, self.slices = study, Slices(0, 0)
        self._spent_s, self._since = 0.0, time.monotonic() if self.has_started else None
        with contextlib.suppress(OSError):  # It has just died; what comes next from it says so.
            self.pipe.send(study)

    def spent_s(self) -> float:
        """Seconds that its study has taken; waiting for the server is not counted."""
        return self._spent_s + (0.0 if self._since is None else time.monotonic() - self._since)

    def receive(self) -> Event:
        """The next that it has to say; there is something."""
        try:
            event = cast("Event", self.pipe.recv())
        except (EOFError, OSError):
            self.process.join()
            return Died(_how_it_ended(self.process.exitcode))
        if isinstance(event, Slices):
            self.slices = event
        elif isinstance(event, Waiting):
            self._spent_s, self._since = self.spent_s(), None if event.is_so else time.monotonic()
        elif isinstance(event, Started):
            self.has_started, self._since = True, time.monotonic()
        return event

    def kill(self) -> None:
        """Ends it at once."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def events_of(workers: Sequence[Worker], timeout_s: float) -> Iterator[tuple[Worker, Event]]:
    """What the workers have to say, within some seconds."""
    by_pipe = {worker.pipe: worker for worker in workers}
    for pipe in wait(list(by_pipe), timeout_s):
        worker = by_pipe[cast("Connection", pipe)]
        yield worker, worker.receive()


def _how_it_ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, as of a process that takes too much memory" if -code == signal.SIGKILL else name


def work(pipe: Connection, owner: int, address: Address, wanted: Wanted, scratch: Path) -> None:
    """What a worker does: studies that come through the pipe, until it is closed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:
        return
    own = scratch / str(os.getpid())
    last = 0.0

    def tell_slices(total: int, done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done in (0, total) or now - last > _TELLS_EVERY_S:
            last = now
            pipe.send(Slices(total, done))

    telling = Telling(tell_slices, lambda is_so: pipe.send(Waiting(is_so)))
    try:
        with Client(address.url, **address.options) as client:
            wait_for_server(client, wanted.ready_s, telling)
            pipe.send(Started())
            while True:
                study = cast("Study", pipe.recv())
                _empty(own)
                pipe.send(analyze_study(client, study, wanted, own, telling))
    except (EOFError, BrokenPipeError):
        return
    except (ServerLostError, OutputLostError, GliogateError, OSError) as error:
        pipe.send(Lost(str(error)))


def _empty(folder: Path) -> None:
    """Makes a folder; what an earlier study left there, that failed, goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
