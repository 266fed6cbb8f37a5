"""The proxy as its owner sees it: a process that is started, told of Triton, and tells how requests fare."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from gliogate.embedded.proxy.main import STOPPING, TRITON_STARTED
from gliogate.errors import EmbeddedServerError

if TYPE_CHECKING:
    from gliogate.embedded.proxy.settings import Settings

_FOLDER: Final = Path(__file__).parent / "proxy"
_ENDED_WITHIN_S: Final = 5.0
_RUN: Final = """
import importlib.util, sys
folder = sys.argv[1]
spec = importlib.util.spec_from_file_location("proxy", f"{folder}/__init__.py", submodule_search_locations=[folder])
sys.modules["proxy"] = importlib.util.module_from_spec(spec)
from proxy.main import main
main()
"""
"""As a package of its own: the rest of gliogate, which is not needed, takes half a second and 100 MB to import."""


class Ports(NamedTuple):
    """What the proxy listens on."""

    grpc: int
    http: int
    metrics: int


class Proxy:
    """A running proxy; it ends with its owner, however that ends.

    Attributes:
        stalled_s: see `gliogate.embedded.proxy.progress.Progress`; so are the next two.
        failing_s: see there.
        broken: see there.
        silent_looks: how often `look` was called since it last said anything.
    """

    def __init__(self, settings: Settings) -> None:
        """Starts it; `wait_until_listening` waits for its ports."""
        self.stalled_s, self.failing_s, self.broken, self.silent_looks = 0.0, 0.0, "", 0
        self._address = settings.address
        self._starts = 0
        self._reader: Thread | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _RUN, str(_FOLDER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            # Ctrl-C in a terminal is for its owner.
            start_new_session=True,
        )
        self._send(settings.line())

    def wait_until_listening(self) -> Ports:
        """Returns what it listens on.

        Raises:
            EmbeddedServerError: it cannot listen.
        """
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        said = json.loads(self._process.stdout.readline() or "{}")
        if "ports" not in said:
            reason = said.get("error") or f"its proxy ended with exit code {self._process.wait()}"
            raise EmbeddedServerError(f"cannot listen on {self._address}, {reason}")
        self._reader = Thread(target=self._read, args=(self._process.stdout,), name="proxy-progress", daemon=True)
        self._reader.start()
        return Ports(*said["ports"])

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def triton_started(self) -> None:
        """Tells it that Triton was started again; what it said of the one before counts no more."""
        self._starts += 1
        self.stalled_s, self.failing_s, self.broken = 0.0, 0.0, ""
        self._send(f"{TRITON_STARTED} {self._starts}\n")

    def stopping(self) -> None:
        """Tells it that there will be no Triton any more."""
        self._send(f"{STOPPING}\n")

    def stop(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None  # noqa: S101  it is a pipe
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._reader:
            self._reader.join()
        elif self._process.stdout is not None:
            self._process.stdout.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101  it is a pipe
        # One that has died is found by `is_alive`.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                said = json.loads(line)
                self.silent_looks = 0
                if said["starts"] == str(self._starts):
                    self.stalled_s, self.failing_s, self.broken = said["stalled_s"], said["failing_s"], said["broken"]
