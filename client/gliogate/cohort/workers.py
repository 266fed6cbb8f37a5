"""Processes that live on, each with a connection of its own, and do one study after the other.

A decoder that brings down its process, or takes all memory, costs the study that it read, and no other: the process is
replaced. When whoever started them is gone, whatever took it, they end.

They are forked from a process of their own that has imported what they need, and nothing else: none of the threads or
connections that forking does not bear are in it, and a further worker costs no time.
"""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import gettempdir
from threading import Thread
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
_IMPORTED: Final = ("gliogate.cli", "gliogate.cohort.workers", "nibabel", "pydicom")
"""What is there need not be imported by each; what is not installed is passed over."""

_LONGEST: Final = 70
"""Bytes of the path of a folder in which a socket still has a name."""

_GRACE_S: Final = 60.0
"""After a study's time, for its owner to end it first, who knows why."""
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
    def start(cls, address: Address, wanted: Wanted, scratch: Path, study_s: float) -> "Worker":
        """Starts a process.

        Args:
            address: of the server.
            wanted: what it does with each study.
            scratch: a folder in which it makes one of its own.
            study_s: seconds after which a study is given up.
        """
        forks = len(os.fsencode(gettempdir())) < _LONGEST
        context = get_context("forkserver") if forks else get_context("spawn")
        context.set_forkserver_preload(list(_IMPORTED))
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, address, wanted, scratch, study_s), daemon=True)
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


def work(pipe: Connection, address: Address, wanted: Wanted, scratch: Path, study_s: float) -> None:
    """What a worker does: studies that come through the pipe, until it is closed."""
    Thread(target=_end_with_owner, daemon=True).start()
    own = scratch / str(os.getpid())
    last = 0.0

    def tell_slices(total: int, done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done in (0, total) or now - last > _TELLS_EVERY_S:
            last = now
            pipe.send(Slices(total, done))

    def tell_waiting(is_so: bool) -> None:
        _end_after(0.0 if is_so else study_s)
        pipe.send(Waiting(is_so))

    telling = Telling(tell_slices, tell_waiting)
    try:
        with Client(address.url, **address.options) as client:
            wait_for_server(client, wanted.ready_s, telling)
            pipe.send(Started())
            while True:
                _end_after(0.0)
                study = cast("Study", pipe.recv())
                _end_after(study_s)
                _empty(own)
                pipe.send(analyze_study(client, study, wanted, own, telling))
    except (EOFError, BrokenPipeError):
        return
    except (ServerLostError, OutputLostError, GliogateError, OSError) as error:
        pipe.send(Lost(str(error)))


def _end_with_owner() -> None:
    owner = parent_process()
    if owner is not None:
        owner.join()
        os._exit(1)


def _end_after(seconds: float) -> None:
    """Has the system end this process, also where a decoder lets no thread run and the owner is gone; 0 is never."""
    signal.setitimer(signal.ITIMER_REAL, seconds and seconds + _GRACE_S)


def _empty(folder: Path) -> None:
    """Makes a folder; what an earlier study left there, that failed, goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
