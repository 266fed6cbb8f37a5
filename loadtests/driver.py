"""One process's part in a stage: its users ask, on schedule or in turn, and what becomes of it is counted."""

import math
import time
from dataclasses import dataclass, field
from typing import Final, Protocol

import gevent
from gevent.event import Event

from gliogate.contract import IMAGE
from loadtests.arrivals import share
from loadtests.callers.sizes import bytes_of
from loadtests.calls import Answer, Call, Caller
from loadtests.pace import Pacer
from loadtests.payloads import Phantoms, Pictures, Pool
from loadtests.record import Outcome, Record
from loadtests.stage import Stage

MOST_IN_FLIGHT: Final = 4096
"""Requests under way in one process; one that is due beyond that is not sent, and the run is invalid."""

GRACE_S: Final = 1.0
"""How long after its end a stage still sends what is late; what is left then is never sent."""

SLICE_BYTES: Final = bytes_of(IMAGE)
_NOTHING: Final = Answer(0, 0, 0)


class Asker(Protocol):
    """What the driver needs of a Locust user."""

    def tell(self, protocol: str, call: Call, latency_s: float, answer: Answer, error: Exception | None) -> None:
        """Makes a request a Locust event; its latency counts from when it was scheduled."""
        ...


@dataclass(eq=False)
class Order:
    """A stage that is on, and this process's share of it.

    Attributes:
        stage: what is to be sent.
        start: when it begins, by `time.monotonic`.
        index: which of the processes this is, from 0.
        count: how many there are.
        pool: what the requests hold.
        in_flight: how many requests of it are under way, those that are about to be sent included.
        stopped: when it was ended before its time, by `time.monotonic`.
        sent: of those that were sent, by their number, when each was due and sent, and how many others were under way.
        over: nothing more is sent.
    """

    stage: Stage
    start: float
    index: int = 0
    count: int = 1
    pool: Pool | None = None
    stopped: float = math.inf
    is_claimed: bool = False
    in_flight: int = 0
    sent: dict[int, tuple[float, float, int]] = field(default_factory=dict)
    over: Event = field(default_factory=Event)

    @property
    def end(self) -> float:
        """When the last request is sent, by `time.monotonic`."""
        return min(self.start + self.stage.duration_s, self.stopped)

    @property
    def origin(self) -> float:
        """When counting begins, by `time.monotonic`."""
        return self.start + self.stage.warm_up_s

    @property
    def is_sending(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.end

    def counts(self, moment: float) -> bool:
        """Whether an answer that came then is one of the time that counts."""
        return self.origin <= moment <= self.end

    def stop(self) -> None:
        """Ends it now, unless it is over."""
        self.stopped = min(self.stopped, time.monotonic())


class Driver:
    """Sends a process's share of each stage.

    Args:
        caller: what the requests are made with.
        source: what they hold.
        timeout_s: how long an answer may take.
    """

    def __init__(self, caller: Caller, source: Phantoms | Pictures, timeout_s: float) -> None:
        self.caller = caller
        self._source, self._timeout_s = source, timeout_s
        self._order: Order | None = None
        self._begun = Event()
        self._record = Record()
        self._sent = 0
        self.in_flight = 0

    def prepare(self, prevalence: float | None) -> None:
        """Draws or reads what requests of this prevalence hold, so that no stage waits for it."""
        self._source.at(prevalence)

    def run(self, order: Order) -> None:
        """Has the users send a stage, and returns when the last answer has come or is no longer waited for."""
        order.pool = self._source.at(order.stage.prevalence)
        self._record, self._sent = Record(inherited=self.in_flight), 0
        self._order = order
        self._begun.set()
        while order.is_sending and not order.over.is_set():
            order.over.wait(min(0.1, max(0.0, order.end - time.monotonic())))
        self._begun.clear()
        if order.stage.is_open and order.is_claimed:
            order.over.wait(GRACE_S)
        self._wait_for_answers(order)
        for due, sent, others in order.sent.values():
            if due >= order.origin:
                self._record.give_up(due - order.origin, sent - order.origin, others)
                self._record.scheduled += not order.stage.is_open
        if order.stage.is_open:
            self._record.scheduled += self._due(order)
        self._record.end_s = max(0.0, order.end - order.origin)
        order.over.set()
        self._order = None
        # What is no longer counted would still be in the way of the next stage.
        self._wait_for_answers(order)

    def _wait_for_answers(self, order: Order) -> None:
        patience = time.monotonic() + (1.0 if order.stopped < math.inf else self._timeout_s + GRACE_S)
        while order.in_flight and time.monotonic() < patience:
            gevent.sleep(0.02)

    def stop(self) -> None:
        """Sends nothing more of the stage that is on."""
        if self._order:
            self._order.stop()

    def take(self) -> Record:
        """What was counted since this was last called."""
        record, self._record = self._record, Record()
        if order := self._order:
            record.end_s = max(0.0, min(time.monotonic(), order.end) - order.origin)
        return record

    def turn(self, user: Asker) -> None:
        """One turn of a user: all arrivals of this process's share in an open loop, one request in a closed one."""
        self._begun.wait()
        order = self._order
        if order is None:
            return
        gevent.sleep(max(0.0, order.start - time.monotonic()))
        if order.stage.is_open and not order.is_claimed:
            order.is_claimed = True
            self._send_scheduled(order, user)
        elif order.stage.is_open:
            order.over.wait()
        elif self._may_ask(order):
            self._ask_in_turn(order, user)
        else:
            order.over.wait()

    def _send_scheduled(self, order: Order, user: Asker) -> None:
        assert order.stage.arrivals is not None and order.pool is not None  # noqa: PT018, S101  it is an open loop
        stage, arrivals, pacer = order.stage, order.stage.arrivals, Pacer()
        times = arrivals.times(stage.duration_s)
        chosen = stage.mix.draw(len(times), stage.seed)
        mine = zip(share(times, order.index, order.count), share(chosen, order.index, order.count), strict=True)
        for position, (offset, choice) in enumerate(mine):
            due = order.start + float(offset)
            pacer.wait_until(due)
            # What was due before the end is still sent, if a little late.
            if due > order.end or time.monotonic() > order.end + GRACE_S:
                break
            if self.in_flight < MOST_IN_FLIGHT:
                number = order.index + position * order.count
                # Counted from here on, or the stage might end before the last one has begun.
                self._count(order, 1)
                gevent.spawn_raw(self._ask, order, user, stage.mix.calls[choice], due, number)
        pacer.close()
        order.over.set()

    def _ask_in_turn(self, order: Order, user: Asker) -> None:
        mix, number = order.stage.mix, self._next_number(order)
        self._sent += 1
        [choice] = mix.draw(1, order.stage.seed + number)
        self._count(order, 1)
        self._ask(order, user, mix.calls[choice], time.monotonic(), number)

    def _count(self, order: Order, change: int) -> None:
        order.in_flight += change
        self.in_flight += change

    def _next_number(self, order: Order) -> int:
        """The number of the next call of a closed loop, whose calls are shared as arrivals are."""
        return order.index + self._sent * order.count

    def _may_ask(self, order: Order) -> bool:
        """Whether there is time and a call left for a user of a closed loop; the last answer of all ends the stage."""
        if order.is_sending and order.stage.calls and self._next_number(order) >= order.stage.calls:
            if not order.in_flight:
                order.stop()
                order.over.set()
            return False
        return order.is_sending

    def _ask(self, order: Order, user: Asker, call: Call, due: float, number: int) -> None:
        assert order.pool is not None  # noqa: S101  `run` has set it
        others, answer = self.in_flight - 1, _NOTHING
        error: Exception | None = None
        sent = time.monotonic()
        order.sent[number] = due, sent, others
        try:
            answer = self.caller.ask(call, order.pool.take(number, call.slices))
        except Exception as failure:
            # Whatever it is, this request has failed; one that no caller knows is told by its own name.
            error = failure
        finally:
            self._count(order, -1)
            del order.sent[number]
        done = time.monotonic()
        if self._order is order and due < order.origin and not error and order.counts(done):
            self._record.answer(done - order.origin, call.slices)
        if self._order is order and due >= order.origin:
            outcome = Outcome(
                call.name,
                due - order.origin,
                sent - order.origin,
                done - order.origin,
                call.slices,
                answer.opened,
                answer.suspicious,
                call.slices * SLICE_BYTES,
                answer.received_bytes,
                type(error).__name__ if error else None,
            )
            self._record.add(outcome, others, is_in_time=order.counts(done))
            if not order.stage.is_open:
                self._record.scheduled += 1
        user.tell(self.caller.protocol, call, done - due, answer, error)

    def _due(self, order: Order) -> int:
        """How many arrivals of this process's share were to be sent, and count."""
        assert order.stage.arrivals is not None  # noqa: S101  it is an open loop
        times = share(order.stage.arrivals.times(order.stage.duration_s), order.index, order.count)
        return int(((times >= order.stage.warm_up_s) & (times <= order.end - order.start)).sum())
