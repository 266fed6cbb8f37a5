"""Processes that are measured: started, waited for, weighed with all that they start, and ended."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self

import psutil

_POLL_S = 0.05
_WEIGH_S = 0.1
_GRACE_S = 10.0


class FailedError(Exception):
    """A process did not start, or died; the message has the end of its log."""


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Process:
    """A process and its descendants; a context manager that ends them all.

    Attributes:
        ready_s: from the start to when it was ready.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        is_ready: Callable[[], bool] = lambda: True,
        start_timeout_s: float = 120.0,
        answer_timeout_s: float = 600.0,
        pipes: bool = False,
    ) -> None:
        """Describes a process; entering the context starts it.

        Args:
            command: the program and its arguments.
            log: where its output goes; with `pipes`, only what it writes to stderr.
            environment: variables in addition to this process's.
            is_ready: asked until it says so.
            start_timeout_s: how long that may take.
            answer_timeout_s: how long an answer may take.
            pipes: speak with it, by `answer`; it is ready when it has written a first line.
        """
        self._command = [str(part) for part in command]
        self._log = log
        self._environment = os.environ | (environment or {})
        self._is_ready = is_ready
        self._start_timeout_s = start_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._pipes = pipes
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._peak = 0
        self._ended = threading.Event()
        self.ready_s = 0.0

    def __enter__(self) -> Self:
        """Starts it and waits until it is ready.

        Raises:
            FailedError: it was not in time, or ended.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE if self._pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._pipes else log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._scales = threading.Thread(target=self._weigh, daemon=True)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        try:
            if self._pipes:
                self._listener.start()
                self._read(self._start_timeout_s, "not ready")
            while not self._is_ready():
                self.check()
                if time.perf_counter() - start > self._start_timeout_s:
                    raise FailedError(f"not ready after {self._start_timeout_s:g} s: {self._last_words()}")
                time.sleep(_POLL_S)
        except BaseException:
            self._end()
            raise
        self.ready_s = time.perf_counter() - start
        self._scales.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it and all that it started."""
        self._ended.set()
        self._scales.join()
        self._end()

    def check(self) -> None:
        """Does nothing while it runs.

        Raises:
            FailedError: it ended.
        """
        if (code := self._process.poll()) is not None:
            raise FailedError(f"ended with exit code {code}: {self._last_words()}")

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Writes a line of JSON to it, and reads one.

        Raises:
            FailedError: it ended instead, or took too long.
        """
        assert self._process.stdin is not None  # noqa: S101  it has pipes
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(question), file=self._process.stdin, flush=True)
        return dict(json.loads(self._read(self._answer_timeout_s, "no answer")))

    def take_peak(self) -> int:
        """The most bytes of resident memory since the last call, of all its processes; pages they share count twice."""
        peak, self._peak = max(self._peak, self._resident()), 0
        return peak

    def _listen(self) -> None:
        """Reads in a thread: a pipe cannot be asked for a line with a limit of time."""
        assert self._process.stdout is not None  # noqa: S101  it has pipes
        try:
            with self._process.stdout as pipe:
                for line in pipe:
                    self._lines.put(line)
        finally:
            self._lines.put("")

    def _read(self, timeout_s: float, missing: str) -> str:
        try:
            line = self._lines.get(timeout=timeout_s)
        except Empty:
            raise FailedError(f"{missing} after {timeout_s:g} s: {self._last_words()}") from None
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
            self.check()
            raise FailedError(f"closed its output: {self._last_words()}")
        return line

    def _weigh(self) -> None:
        while not self._ended.wait(_WEIGH_S):
            self._peak = max(self._peak, self._resident())

    def _resident(self) -> int:
        total = 0
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def _end(self) -> None:
        # Those that a process leaves behind when it ends are no longer to be found from it.
        family = self._family()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=_GRACE_S)
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._listener.join(_GRACE_S)

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else "it said nothing"
