"""The server under test as a fault sees it: its processes, its addresses, its repository, its wire."""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from gliogate.embedded.stubs import stubs_of

from .relay import Relay

SHARED_MEMORY_MIB = 256
_STARTED_WITHIN_S = 120.0


class Stage:
    """A server that was started for a campaign.

    Attributes:
        addresses: its `url`, `http_url`, `metrics_url` and `triton_url`.
        relay: the wire between the load and the server.
        repository: its model repository, a copy.
        said: what it said of restarts.
        has_own_shared_memory: whether its /dev/shm is its own and small, so that it can be filled.
    """

    def __init__(self, repository: Path) -> None:
        self.said: list[str] = []
        self._folder = tempfile.TemporaryDirectory()
        self.repository = Path(shutil.copytree(repository, Path(self._folder.name) / "model_repository"))
        command = [sys.executable, "-m", "chaos.served", str(self.repository)]
        self.has_own_shared_memory = os.geteuid() == 0 and shutil.which("unshare") is not None
        if self.has_own_shared_memory:
            mount = f'mount -t tmpfs -o size={SHARED_MEMORY_MIB}m tmpfs /dev/shm && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mount, "sh", *command]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(lines,), daemon=True).start()
        self.addresses: dict[str, str] = json.loads(lines.get(timeout=_STARTED_WITHIN_S))
        self.relay = Relay(self.addresses["url"])

    @property
    def name(self) -> str:
        """What its Triton's processes are named by."""
        return Path(self.addresses["triton_url"]).parent.name

    @property
    def shared_memory(self) -> Path:
        """Its /dev/shm."""
        return Path("/proc", str(self._process.pid), "root", "dev", "shm")

    def processes(self) -> list[int]:
        """All of its processes: the owner, the proxy, the guard, Triton and its models'."""
        found, left = [], [self._process.pid]
        while left:
            found.append(left.pop())
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{found[-1]}/task").iterdir():
                    left += map(int, (task / "children").read_text().split())
        return found

    def process_of(self, program: str) -> int:
        """The process on whose command line this stands, and no other's: tritonserver, or proxy.main."""
        for process in self.processes():
            with contextlib.suppress(OSError):
                arguments = Path(f"/proc/{process}/cmdline").read_text(errors="replace").split("\0")
                if "guard.py" not in " ".join(arguments[:5]) and any(program in argument for argument in arguments[:5]):
                    return process
        raise LookupError(program)

    def models(self) -> dict[int, str]:
        """The processes of its models, and the instances that they run."""
        return stubs_of(self.name)

    def signal(self, processes: list[int], number: int) -> None:
        """Signals processes, as far as they are there."""
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def memory_mib(self) -> float:
        """What its processes have resident, in all."""
        return sum(_resident_kib(process) for process in self.processes()) / 1024

    def descriptors(self) -> int:
        """How many files its processes have open."""
        return sum(_descriptors(process) for process in self.processes())

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.signal(self.processes(), signal.SIGKILL)
        self._folder.cleanup()

    def _listen(self, lines: queue.SimpleQueue[str]) -> None:
        assert self._process.stdout is not None
        lines.put(self._process.stdout.readline())
        self.said.extend(line.strip() for line in self._process.stdout)


def _resident_kib(process: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def _descriptors(process: int) -> int:
    with contextlib.suppress(OSError):
        return len(list(Path(f"/proc/{process}/fd").iterdir()))
    return 0
