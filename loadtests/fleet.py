"""The processes that send: this one alone, or Locust workers that share one schedule."""

import time
from dataclasses import dataclass
from typing import Any, Final, Protocol

import gevent
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from loadtests.driver import Driver, Order
from loadtests.errors import FleetError
from loadtests.record import Record
from loadtests.stage import Stage

LEAD_S: Final = 0.2
"""How far ahead a stage is ordered in one process."""

REMOTE_LEAD_S: Final = 0.5
"""How far ahead it is ordered of workers. Each counts it from when the order came, by its own clock: no two clocks are
compared, and workers begin as far apart as their orders arrived."""

BEGIN, STOP, DONE = (f"gliogate_{name}" for name in ("begin", "stop", "done"))
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
    def workers(self) -> tuple[str, ...]:
        """Those that were told to send the stage; none where it is this process alone."""
        ...

    @property
    def lost(self) -> tuple[str, ...]:
        """Those that went away during the stage."""
        ...


class LocalFleet:
    """This process."""

    count = 1
    workers: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._sending: gevent.Greenlet | None = None
        self._record = Record()

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
    error: str = ""


class MasterFleet:
    """Locust's workers. Each tells what it counts every few seconds, so that one that is lost loses little.

    Args:
        environment: Locust's.
        shared: what workers have to be told as this process is, by option; see `Settings.shared`.
    """

    def __init__(self, environment: Environment, shared: dict[str, str]) -> None:
        assert isinstance(environment.runner, MasterRunner)  # noqa: S101  the caller saw to it
        self._runner, self._shared = environment.runner, shared
        self._number = 0
        self._shares: dict[str, _Share] = {}
        self._record = Record()
        self._runner.register_message(DONE, self._take_done)
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
        order = {"number": self._number, "stage": stage.to_json(), "workers": workers, "shared": self._shared}
        self._runner.send_message(BEGIN, order | {"lead_s": REMOTE_LEAD_S})
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
    def workers(self) -> tuple[str, ...]:
        """See `Fleet`."""
        return tuple(self._shares)

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
            self._shares[msg.node_id] = _Share(is_done=True, error=msg.data["error"])

    def _take(self, told: dict[str, Any]) -> None:
        if told["number"] == self._number and told["record"]:
            self._record.merge(Record.from_json(told["record"]))


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

    def listen(self) -> None:
        """Takes orders from now on."""
        runner = self._runner
        runner.register_message(BEGIN, self._begin, concurrent=True)
        runner.register_message(STOP, lambda **_: self.driver.stop())
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
        start = time.monotonic() + msg.data["lead_s"]
        told: dict[str, Any] = {"number": msg.data["number"], "record": None, "error": ""}
        try:
            told["record"] = self._send(msg.data, start).to_json()
        except Exception as error:
            # Without a word the master would wait for ever.
            told["error"] = str(error) or type(error).__name__
        self._number = 0
        self._runner.send_message(DONE, told)

    def _send(self, order: dict[str, Any], start: float) -> Record:
        """Sends this process's share of a stage from then on, by `time.monotonic`; returns what it counted."""
        theirs = order["shared"]
        if differing := [name for name, value in self.shared.items() if value != theirs.get(name)]:
            told = "; ".join(f"{name} is {self.shared[name]}, the master's {theirs.get(name)}" for name in differing)
            raise FleetError(told)
        stage = Stage.from_json(order["stage"])
        self.driver.prepare(stage.prevalence)
        self._number = 0  # What was counted before is no part of this stage.
        self.driver.take()
        self._number = order["number"]
        workers = order["workers"]
        self.driver.run(Order(stage, start, workers.index(self._runner.client_id), len(workers)))
        return self.driver.take()
