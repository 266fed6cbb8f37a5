"""What Kubernetes does with a pod's probes."""

import threading
import time
from typing import Self

from support.pods import Served


class Kubelet:
    """Runs a container's probes in a `with` block, by their periods, time limits and thresholds.

    Attributes:
        ready: whether the pod gets requests.
        unready_at: when that ended first, on the monotonic clock.
        restarted_at: when it would have started the container again, which here goes on; what follows is not told.
        runs: how many probes it has run.
        said: each probe that failed, and what it said.
    """

    def __init__(self, served: Served, *, by_states: bool = True) -> None:
        self.ready = False
        self.unready_at: float | None = None
        self.restarted_at: float | None = None
        self.runs = 0
        self.said: list[tuple[str, str]] = []
        self._served = served
        self._by_states = by_states
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._start)]

    @property
    def restarted(self) -> bool:
        """Whether it would have started the container again."""
        return self.restarted_at is not None

    def _start(self) -> None:
        """Neither of the other two is run before the startup probe has passed."""
        self._run("startupProbe", ends_with=True)
        for target in (self._readiness, self._liveness):
            if not (self._ending.is_set() or self.restarted):
                self._threads.append(threading.Thread(target=target))
                self._threads[-1].start()

    def _readiness(self) -> None:
        self._run("readinessProbe")

    def _liveness(self) -> None:
        self._run("livenessProbe")

    def _run(self, name: str, *, ends_with: bool = False) -> None:
        probe = self._served.container[name]
        failures = 0
        tick = time.monotonic()
        while not self._ending.is_set():
            succeeds, said = self._served.run_probe(name, by_states=self._by_states)
            self.runs += 1
            failures = 0 if succeeds else failures + 1
            if not succeeds:
                self.said.append((name, said))
            if name == "readinessProbe":
                self._tell(succeeds, failures >= probe["failureThreshold"])
            elif failures >= probe["failureThreshold"]:
                self.restarted_at = self.restarted_at or time.monotonic()
                return
            if ends_with and succeeds:
                return
            # A tick that comes while a probe runs is kept, others are lost.
            tick = max(tick + probe["periodSeconds"], time.monotonic())
            self._ending.wait(tick - time.monotonic())

    def _tell(self, succeeds: bool, has_failed: bool) -> None:
        if succeeds:
            self.ready = True
        elif has_failed:
            self.unready_at = self.unready_at or (time.monotonic() if self.ready else None)
            self.ready = False

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
