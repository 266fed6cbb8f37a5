"""Three real Tritons that share the requests, and the load that they are put under."""

import contextlib
import json
import math
import random
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.signals import signal_server
from support.tiny_networks import slices
from support.waiting import wait_for

from gliogate import Analysis, Client, GliogateError
from gliogate.contract import ENSEMBLE
from gliogate.embedded import EmbeddedServer
from gliogate.errors import EmbeddedServerError

SIZE = 3
IN_FLIGHT = 8
"""How many requests of a load are under way at a time, at most."""

PAUSE_S = 0.1
"""Between two requests of one caller. Without it a load would take the processor from the servers that it waits for."""

_TUMOR = slices(0.75)[0]


class Fleet:
    """Embedded Tritons at addresses that they keep when they are started again.

    Attributes:
        urls: where they speak gRPC, HOST:PORT.
        http_ports: where they tell their health.
    """

    def __init__(self, repository: Path) -> None:
        ports = free_ports(2 * SIZE)
        self.http_ports = ports[SIZE:]
        self._servers = [
            EmbeddedServer(repository, grpc_port=port, http_port=http_port)
            for port, http_port in zip(ports, self.http_ports, strict=False)
        ]
        self.urls = [f"127.0.0.1:{port}" for port in ports[:SIZE]]

    def __enter__(self) -> "Fleet":
        try:
            for server in self._servers:
                server.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.stop()

    def restart(self, index: int) -> None:
        """Ends a server with SIGTERM, as `gliogate serve` ends, or clears away one that was killed; starts it again."""
        self._servers[index].stop()
        self._servers[index].start()

    def revive(self, index: int) -> None:
        """Starts a server again that is not running."""
        try:
            self._servers[index].check()
        except EmbeddedServerError:
            self.restart(index)

    def kill(self, index: int) -> None:
        """Ends a Triton that had no time to prepare for it."""
        signal_server(self._servers[index], signal.SIGKILL)

    @contextmanager
    def paused(self, index: int) -> Iterator[None]:
        """Stops a Triton's clock: it takes connections and requests, and answers nothing."""
        signal_server(self._servers[index], signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(LookupError):  # It was killed meanwhile.
                signal_server(self._servers[index], signal.SIGCONT)

    def answered(self, *indices: int) -> int:
        """How many requests servers have answered since they were started, those that they refused left out."""
        count = 0
        for index in indices:
            url = f"http://127.0.0.1:{self.http_ports[index]}/v2/models/{ENSEMBLE.name}/stats"
            with urllib.request.urlopen(url, timeout=10) as response:
                count += json.load(response)["model_stats"][0]["inference_stats"]["success"]["count"]
        return count

    def wait_for_answers(self, count: int, *indices: int) -> None:
        """Returns when servers, together, have answered so many more requests."""
        wanted = self.answered(*indices) + count
        wait_for(lambda: self.answered(*indices) >= wanted)


class Load:
    """Requests of `IN_FLIGHT` callers, one after the other, in a `with` block. After one that failed comes the next.

    Attributes:
        answers: what was found.
        errors: what the caller was told of requests that failed: the lost ones.
    """

    def __init__(self, client: Client, **options: float) -> None:
        self.answers: list[Analysis] = []
        self.errors: list[GliogateError] = []
        self._durations_s: list[list[float]] = [[] for _ in range(IN_FLIGHT)]
        self._sent_at = dict.fromkeys(range(IN_FLIGHT), math.inf)
        self._client = client
        self._options = options
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(index,)) for index in range(IN_FLIGHT)]

    @property
    def slowest_s(self) -> float:
        """How long the slowest request took, whatever came of it."""
        return max(map(max, self._durations_s))

    def wait_for_those_under_way(self) -> None:
        """Returns when all requests that are under way now have come to an end, whatever came of them."""
        before = list(map(len, self._durations_s))
        wait_for(lambda: all(len(now) > then for now, then in zip(self._durations_s, before, strict=True)))

    def wait_for_one_that_waits(self, seconds: float = 1.0) -> None:
        """Returns when a request has been under way for so long."""
        wait_for(lambda: time.monotonic() - min(self._sent_at.values()) > seconds)

    def _run(self, index: int) -> None:
        while not self._ending.is_set():
            self._sent_at[index] = time.monotonic()
            try:
                self.answers.append(self._client.analyze(_TUMOR, **self._options))
            except GliogateError as error:
                self.errors.append(error)
            self._durations_s[index].append(time.monotonic() - self._sent_at[index])
            self._sent_at[index] = math.inf
            self._ending.wait(PAUSE_S)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        wait_for(lambda: len(self.answers) > IN_FLIGHT)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()


def free_ports(count: int) -> list[int]:
    """Returns ports below those that the kernel gives to clients: none of these takes one while its server is away."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", random.randrange(20_000, 30_000)))
            ports.append(listener.getsockname()[1])
    return ports
