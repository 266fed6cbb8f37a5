"""A pod of the chart on this machine: its container's arguments, run by the embedded Triton. It needs no entrypoint."""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.fleet import free_ports
from support.waiting import wait_for

from gliogate.embedded import guard
from gliogate.embedded.installation import Installation

TOKEN = "of-letters-digits-and-hyphens-1"  # noqa: S105  it guards nothing
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
START_S = 60
STARTS = 3
"""How often the container is started again that ends at its start, as Kubernetes does."""


class Served:
    """A pod's container, run on this machine."""

    def __init__(self, container: dict[str, Any], ports: list[int], guard_pid: int, folder: Path) -> None:
        port, http_port, metrics_port = ports
        loopback = "[::1]" if "--grpc-address=[::]" in container["args"] else "127.0.0.1"
        self.container = container
        self.url = f"localhost:{port}"
        self.metrics_url = f"http://{loopback}:{metrics_port}/metrics"
        self.http_url = f"http://127.0.0.1:{http_port}"
        self.log = folder / "log"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self._guard_pid = guard_pid

    def is_up(self) -> bool:
        """Metrics are the last that Triton opens, when every model is ready."""
        with contextlib.suppress(OSError), urllib.request.urlopen(self.metrics_url, timeout=1):
            return True
        return False

    def health(self) -> bytes:
        """What Triton says of itself by gRPC; 1 is SERVING."""
        with grpc.insecure_channel(self.url) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check", lambda _: b"", lambda answer: answer)
            return check(None, timeout=5)

    @property
    def triton(self) -> int:
        """The process of Triton, which in the pod is process 1."""
        (triton,) = children(self._guard_pid)
        return triton

    def processes(self, model: str) -> list[int]:
        """The Python processes of a model's instances."""
        return [pid for pid in children(self.triton) if f"/{model}/" in Path(f"/proc/{pid}/cmdline").read_text()]

    def run_probe(self, name: str, *, by_states: bool = True) -> tuple[bool, str]:
        """Runs the command of a probe as in the pod.

        Args:
            name: the probe's in the container's specification.
            by_states: whether it may see the states of Triton's Python processes.

        Returns:
            Whether it succeeds, and what it says.
        """
        parent = self.triton if by_states else 0
        command = self.container[name]["exec"]["command"]
        try:
            done = subprocess.run(
                [re.sub(r"\) ([ZT]) 1 '", rf") \1 {parent} '", each) for each in command],
                # As extraEnv may have it: there is no proxy to this pod itself.
                env=os.environ
                | dict.fromkeys(("http_proxy", "all_proxy"), "http://127.0.0.1:9")
                | {"TMPDIR": str(self.temporary)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=self.container[name]["timeoutSeconds"],
            )
        except subprocess.TimeoutExpired:
            return False, "command timed out"
        return done.returncode == 0, done.stdout.strip()

    def probe(self, name: str) -> bool:
        """Whether a probe succeeds."""
        return self.run_probe(name)[0]

    def kill_gate(self) -> None:
        """Kills a process of the gate's, as a lack of memory would."""
        os.kill(self.processes("brain_tumor")[0], signal.SIGKILL)

    @contextmanager
    def stopped(self, *models: str) -> Iterator[None]:
        """Stops the processes of some models."""
        pids = [pid for model in models for pid in self.processes(model)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def children(pid: int) -> list[int]:
    """Returns the processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def served_pod(
    pod: Any,
    repository: Path,
    folder: Path,
    scenario: str = "cpu",
    *,
    host: str = "127.0.0.1",
    secret: Path | None = None,
    waits: bool = True,
    **values: Any,
) -> Iterator[Served]:
    """Starts the container of a scenario: its arguments, but for folders, addresses and ports.

    Args:
        pod: renders it.
        repository: what it serves.
        folder: an empty one, for what it needs and writes.
        scenario: the chart's values.
        host: where it listens that is to be called from outside.
        secret: the folder with the certificate of the server.
        waits: until all models are loaded.
        values: further ones.
    """
    ports = port, http_port, metrics_port = free_ports(3)
    prefix = f"gliogate-{secrets.token_hex(6)}"
    _, container = pod(
        scenario,
        models={"source": "image", "path": str(repository)},
        triton__grpc__port=port,
        triton__http__port=http_port,
        triton__metrics__port=metrics_port,
        triton__extraArgs=[
            f"--backend-directory={folder / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={prefix}",
        ],
        **values,
    )
    arguments = [
        # Nobody but this machine, and no GPU.
        re.sub(r"=(\[::|ipv6:::)(\]?)$", r"=\g<1>1\2", each)
        .replace("=0.0.0.0", f"={host}")
        .replace("/etc/gliogate/tls", str(secret))
        .replace("--allow-gpu-metrics=true", "--allow-gpu-metrics=false")
        for each in container["args"]
    ]
    installation = Installation.find()
    installation.assemble(folder)
    environment = installation.environment(folder)
    environment["PATH"] = f"{installation.executable.parent}{os.pathsep}{environment['PATH']}"
    if any(each["name"] == "GLIOGATE_ADMIN_TOKEN" for each in container["env"]):
        environment["GLIOGATE_ADMIN_TOKEN"] = TOKEN
    # It ends with this process, however that ends.
    guarded = [sys.executable, "-I", "-S", guard.__file__, f"{os.getpid()}", "10", "/nonexistent", prefix]
    log = folder / "log"
    for attempt in range(1, STARTS + 1):
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*guarded, *container.get("command", []), *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            served = Served(container, ports, process.pid, folder)
            until = served.is_up if waits else partial(children, process.pid)
            wait_for(lambda until=until, process=process: bool(until()) or process.poll() is not None, START_S)
            if process.poll() is None:
                yield served
                return
            # On a machine with no time to spare Triton does not always get hold of its Python processes.
            text = log.read_text(errors="replace")
            if "lock_exception" not in text or attempt == STARTS:
                pytest.fail(text)
        finally:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """The second signal kills: Triton would take seconds to unload its models."""
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    process.wait(20)
