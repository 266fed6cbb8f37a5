"""Goes through the stages of a run, and has client and server counted over the same window of each."""

import math
import time
from collections.abc import Callable
from typing import Final

import gevent
from locust.runners import STATE_RUNNING, Runner

from gliogate import GliogateError
from loadtests.calls import Caller
from loadtests.errors import FleetError
from loadtests.fleet import Fleet
from loadtests.record import Record
from loadtests.result import StageResult
from loadtests.server_view import ServerView, between
from loadtests.stage import Stage

TICK_S: Final = 0.25
SPAWNING_S: Final = 60.0
"""How long Locust's users may take to start or stop, beyond what its rate of doing so takes."""

LOOK_S: Final = 5.0
"""After so long in which requests failed and none was answered, a server that is not there ends the stage."""

Show = Callable[[Stage, Record, float], None]
"""Is told, several times a second, of the stage, its record so far, and the seconds since it began."""


class Conductor:
    """Measures stages.

    Args:
        runner: Locust's, which starts and stops the users.
        fleet: who sends.
        server: who is asked for the server's view.
        caller: who asks whether the server is still there.
        late_ms: see `StageResult`.
        ready_s: how long a server may take to say that it is still there; a busy one takes its time.
        show: what is told while a stage is on.
    """

    def __init__(
        self,
        runner: Runner,
        fleet: Fleet,
        server: ServerView,
        caller: Caller,
        *,
        late_ms: float,
        ready_s: float,
        show: Show,
    ) -> None:
        self._runner, self._fleet, self._server, self._caller = runner, fleet, server, caller
        self._late_ms, self._ready_s, self._show = late_ms, ready_s, show
        self._is_stopped = False
        self.was_interrupted = False

    def measure(self, stage: Stage) -> StageResult:
        """Runs a stage to its end, or until `stop`.

        Raises:
            FleetError: there are no workers, or fewer users than that; the users did not start, or a worker cannot
                send the stage.
        """
        self._is_stopped = False
        # In an open loop every process needs one user, who sends all of its share.
        self._set_users(stage.users or self._fleet.count)
        if stage.calls and stage.users < self._fleet.count:
            # A worker without users would never make its share of the calls.
            raise FleetError(f"{stage.name!r} has {stage.users} users, too few for {self._fleet.count} workers")
        before = self._server.snapshot()
        start = time.monotonic() + self._fleet.begin(stage)
        # Whoever stopped it while the server was asked is heeded there: see `_go_on`.
        if stage.warm_up_s and self._go_on(stage, start, until=start + stage.warm_up_s):
            before = self._server.snapshot(under_load=True)
        self._go_on(stage, start, until=math.inf)
        return StageResult(
            stage,
            self._fleet.record,
            between(before, self._server.snapshot()),
            self._late_ms,
            self._fleet.workers,
            self._fleet.lost,
            self.was_interrupted,
        )

    def stop(self) -> None:
        """Ends the stage that is on, as if its time were over."""
        self._is_stopped = True
        self._fleet.stop()

    def interrupt(self) -> None:
        """Ends it before its time."""
        self.was_interrupted = True
        self.stop()

    def lost_server(self) -> str | None:
        """Why the server can no longer be asked; None while it can."""
        try:
            self._caller.wait_until_ready(self._ready_s)
        except GliogateError as error:
            return str(error)
        return None

    def _go_on(self, stage: Stage, start: float, *, until: float) -> bool:
        """Shows how a stage goes until then, or until it is over; whether it goes on."""
        looked, answered, failed = time.monotonic(), 0, 0
        while not self._fleet.is_over:
            if self._is_stopped:
                self._fleet.stop()
            left_s = until - time.monotonic()
            if left_s <= 0:
                return True
            gevent.sleep(min(TICK_S, left_s))
            self._show(stage, self._fleet.record, time.monotonic() - start)
            if time.monotonic() >= looked + LOOK_S:
                total = self._fleet.record.total
                if total.corrected.count == answered and total.failed > failed and self.lost_server():
                    self.stop()
                looked, answered, failed = time.monotonic(), total.corrected.count, total.failed
        return False

    def _set_users(self, users: int) -> None:
        if not self._fleet.count:
            raise FleetError("there are no workers any more")
        # Asked of Locust each time: a worker that is lost takes its users with it.
        if self._runner.state == STATE_RUNNING and self._runner.user_count == users:
            return
        # Locust stops users at that rate, too; it warns of more than a hundred a second from one process.
        change = abs(users - self._runner.user_count)
        rate = max(1, min(change, 100 * self._fleet.count))
        self._runner.start(users, spawn_rate=rate)
        patience_s = SPAWNING_S + change / rate
        deadline = time.monotonic() + patience_s
        while self._runner.state != STATE_RUNNING or self._runner.user_count != users:
            if time.monotonic() > deadline:
                raise FleetError(f"{self._runner.user_count} of {users} users started within {patience_s:.0f} s")
            gevent.sleep(0.02)
