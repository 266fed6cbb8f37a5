"""The processes that send: this one alone, or Locust workers that share one schedule."""

import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import gevent
from gevent.event import AsyncResult
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from loadtests.driver import Driver, Order
from loadtests.errors import FleetError
from loadtests.record import Record
from loadtests.result import Clock
from loadtests.stage import Stage

LEAD_S: Final = 0.2
"""How far ahead a stage is ordered in one process."""

REMOTE_LEAD_S: Final = 1.0
"""How far ahead it is ordered of workers, who first compare their clocks."""

PINGS: Final = 8

BEGIN, STOP, DONE, PING, PONG = (f"gliogate_{name}" for name in ("begin", "stop", "done", "ping", "pong"))
REPORT: Final = "gliogate"


class Fleet(Protocol):
    """The processes that send."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def begin(self, stage: Stage) -> float:
        """Has all of them send their share of a stage, from the same time on; returns in how many seconds that is."""
        ...

    def stop(self) -> None:
        """Has all of them send nothing more of it."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether the last answer has come to the last of them.

        Raises:
            FleetError: one of them cannot send the stage.
        """
        ...

    @property
    def record(self) -> Record:
        """What they have told of the stage so far."""
        ...

    @property
    def clocks(self) -> tuple[Clock, ...]:
        """Their clocks."""
        ...

    @property
    def lost(self) -> tuple[str, ...]:
        """Those that went away during the stage."""
        ...


class LocalFleet:
    """This process."""

    count = 1
    lost: tuple[str, ...] = ()

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._sending: gevent.Greenlet | None = None
        self._record = Record()
        self.clocks = (Clock("this process", socket.gethostname(), is_same=True),)

    def begin(self, stage: Stage) -> float:
        """See `Fleet`."""
        self._record = Record()
        self._driver.prepare(stage.prevalence)
        self._sending = gevent.spawn(self._driver.run, Order(stage, time.monotonic() + LEAD_S))
        return LEAD_S

    def stop(self) -> None:
        """See `Fleet`."""
        self._driver.stop()

    @property
    def is_over(self) -> bool:
        """See `Fleet`."""
        if self._sending is not None and self._sending.exception:  # One that has ended is false.
            raise FleetError(f"this cannot be sent: {self._sending.exception}") from self._sending.exception
        return self._sending is None or self._sending.ready()

    @property
    def record(self) -> Record:
        """See `Fleet`."""
        self._record.merge(self._driver.take())
        return self._record


@dataclass
class _Share:
    """What a worker has told of a stage."""

    is_done: bool = False
    clock: Clock | None = None
    error: str = ""


class MasterFleet:
    """Locust's workers. Each tells what it counts every few seconds, so that one that is lost loses little.

    Args:
        environment: Locust's.
        shared: what workers have to be told as this process is, by option; see `Settings.shared`.
    """

    def __init__(self, environment: Environment, shared: dict[str, str]) -> None:
        assert isinstance(environment.runner, MasterRunner)  # noqa: S101  the caller saw to it
        self._runner, self.shared = environment.runner, shared
        self._number = 0
        self._shares: dict[str, _Share] = {}
        self._record = Record()
        self._runner.register_message(DONE, self._take_done)
        self._runner.register_message(PING, self._answer)
        environment.events.worker_report.add_listener(self._take_report)  # type: ignore[no-untyped-call]

    @property
    def count(self) -> int:
        """See `Fleet`."""
        return self._runner.worker_count

    def begin(self, stage: Stage) -> float:
        """See `Fleet`."""
        self._number += 1
        self._record = Record()
        workers = sorted(client.id for client in self._runner.clients.all if client.state != STATE_MISSING)
        self._shares = {worker: _Share() for worker in workers}
        order = {"number": self._number, "stage": stage.to_json(), "workers": workers, "shared": self.shared}
        self._runner.send_message(BEGIN, order | {"start": time.time() + REMOTE_LEAD_S})
        return REMOTE_LEAD_S

    def stop(self) -> None:
        """See `Fleet`."""
        self._runner.send_message(STOP, {})

    @property
    def is_over(self) -> bool:
        """See `Fleet`."""
        for worker, share in self._shares.items():
            if share.error:
                self.stop()
                raise FleetError(f"worker {worker} cannot send this: {share.error}")
        return all(share.is_done or worker in self.lost for worker, share in self._shares.items())

    @property
    def record(self) -> Record:
        """See `Fleet`."""
        return self._record

    @property
    def clocks(self) -> tuple[Clock, ...]:
        """See `Fleet`."""
        return tuple(share.clock for share in self._shares.values() if share.clock)

    @property
    def lost(self) -> tuple[str, ...]:
        """See `Fleet`."""
        here = {client.id for client in self._runner.clients.all if client.state != STATE_MISSING}
        return tuple(worker for worker, share in self._shares.items() if worker not in here and not share.is_done)

    def _take_report(self, client_id: str, data: dict[str, Any]) -> None:
        del client_id
        if told := data.get(REPORT):
            self._take(told)

    def _take_done(self, environment: Environment, msg: Any, **_: object) -> None:
        del environment
        self._take(msg.data)
        if msg.data["number"] == self._number and msg.node_id in self._shares:
            clock = msg.data["clock"] and Clock(**msg.data["clock"])
            self._shares[msg.node_id] = _Share(is_done=True, clock=clock, error=msg.data["error"])

    def _take(self, told: dict[str, Any]) -> None:
        if told["number"] == self._number and told["record"]:
            self._record.merge(Record.from_json(told["record"]))

    def _answer(self, environment: Environment, msg: Any, **_: object) -> None:
        del environment
        self._runner.send_message(PONG, {"time": time.time(), "boot": boot_id()}, client_id=msg.node_id)


@dataclass
class WorkerPart:
    """A worker's side: it takes orders from the master, and tells what it counted.

    Attributes:
        environment: Locust's.
        driver: what sends.
        shared: see `MasterFleet`.
    """

    environment: Environment
    driver: Driver
    shared: dict[str, str]
    _number: int = 0
    _clock: Clock | None = None
    _pong: AsyncResult = field(default_factory=AsyncResult)

    def listen(self) -> None:
        """Takes orders from now on."""
        runner = self._runner
        runner.register_message(BEGIN, self._begin, concurrent=True)
        runner.register_message(STOP, lambda **_: self.driver.stop())
        runner.register_message(PONG, lambda msg, **_: self._pong.set(msg.data))
        self.environment.events.report_to_master.add_listener(self._report)  # type: ignore[no-untyped-call]

    @property
    def _runner(self) -> WorkerRunner:
        assert isinstance(self.environment.runner, WorkerRunner)  # noqa: S101  the caller saw to it
        return self.environment.runner

    def _report(self, client_id: str, data: dict[str, Any]) -> None:
        del client_id
        if self._number:
            data[REPORT] = {"number": self._number, "record": self.driver.take().to_json()}

    def _begin(self, environment: Environment, msg: Any, **_: object) -> None:
        del environment
        number = msg.data["number"]
        told: dict[str, Any] = {"number": number, "record": None, "clock": None, "error": ""}
        try:
            told |= self._send(msg.data)
        except Exception as error:
            # Without a word the master would wait for ever.
            told["error"] = str(error) or type(error).__name__
        self._number = 0
        self._runner.send_message(DONE, told)

    def _send(self, order: dict[str, Any]) -> dict[str, Any]:
        """Sends this process's share of a stage; returns what it counted and its clock."""
        theirs = order["shared"]
        if differing := [name for name, value in self.shared.items() if value != theirs.get(name)]:
            told = "; ".join(f"{name} is {self.shared[name]}, the master's {theirs.get(name)}" for name in differing)
            raise FleetError(told)
        stage = Stage.from_json(order["stage"])
        self._clock = self._clock or self._compare_clocks()
        self.driver.prepare(stage.prevalence)
        start = time.monotonic() + order["start"] + self._clock.offset_s - time.time()
        self._number = 0  # What was counted before is no part of this stage.
        self.driver.take()
        self._number = order["number"]
        workers = order["workers"]
        self.driver.run(Order(stage, start, workers.index(self._runner.client_id), len(workers)))
        return {"record": self.driver.take().to_json(), "clock": vars(self._clock)}

    def _compare_clocks(self) -> Clock:
        """Asks the master for its time, several times; the fastest answer is the best one."""
        best: tuple[float, float, str] | None = None
        for _ in range(PINGS):
            self._pong = AsyncResult()
            asked = time.time()
            self._runner.send_message(PING, {})
            try:
                told = self._pong.get(timeout=0.5)
            except gevent.Timeout:
                continue
            answered = time.time()
            candidate = ((answered - asked) / 2, (answered + asked) / 2 - told["time"], told["boot"])
            best = min(best, candidate) if best else candidate
        if best is None:
            return Clock(self._runner.client_id, socket.gethostname(), is_same=False, uncertainty_s=REMOTE_LEAD_S)
        uncertainty, offset, boot = best
        if boot == boot_id():
            return Clock(self._runner.client_id, socket.gethostname(), is_same=True)
        return Clock(self._runner.client_id, socket.gethostname(), False, offset, uncertainty)


def boot_id() -> str:
    """What tells one boot of one machine from all others, and so one clock from others."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else socket.gethostname()
