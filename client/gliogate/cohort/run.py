"""Hands out studies to workers, until there are none left that nobody has."""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gliogate.cohort.analysis import OF_ALL, Wanted
from gliogate.cohort.claims import Claims, Taking
from gliogate.cohort.results import Result, folder_of
from gliogate.cohort.studies import Study
from gliogate.cohort.workers import Address, Died, Lost, Started, Worker, events_of

_ATTEMPTS: Final = 2
"""How many workers a study may cost."""

_TASKS: Final = 2
"""How many tasks it may cost: where memory is short, some systems kill all of a container."""

_STARTS: Final = 3
"""How many workers in a row may end before they have begun with anything."""

_LOOKS_EVERY_S: Final = 0.5


class CohortStoppedError(Exception):
    """The run could not go on: the server or the output is gone, or no worker starts. Another run may go on."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        total: studies of the cohort.
        settled: of them, by whoever did them, as far as this task knows.
        failed: of those that this task did.
        slices: that this task has had analyzed.
        elapsed_s: since its first study was begun, in seconds.
        left_s: that all the rest will take, as it has gone so far; None where that is not known.
    """

    total: int
    settled: int
    failed: int
    slices: int
    elapsed_s: float
    left_s: float | None


@dataclass(kw_only=True)
class Run:
    """One task's share of a cohort.

    Attributes:
        studies: all of the cohort's, in the order in which they are taken.
        wanted: what is done with each.
        address: gives that of the server; asked once, when there is something to do.
        claims: of this task.
        workers: how many processes there are, at most.
        study_s: how long a study may take, in seconds.
        on_result: is told of each study that this task did.
        on_progress: is told now and then.
    """

    studies: Sequence[Study]
    wanted: Wanted
    address: Callable[[], Address]
    claims: Claims
    workers: int
    study_s: float
    on_result: Callable[[Result], None]
    on_progress: Callable[[Progress], None]
    _pool: list[Worker] = field(default_factory=list, init=False)
    _open: deque[Study] = field(default_factory=deque, init=False)
    _others: deque[Study] = field(default_factory=deque, init=False)  # Which other tasks have.
    _again: deque[Study] = field(default_factory=deque, init=False)  # Which cost a worker, and are ours.
    _suspects: deque[Study] = field(default_factory=deque, init=False)  # Which cost a task, and are ours.
    _is_last_look: bool = field(default=False, init=False)
    _looked_at: float = field(default=float("-inf"), init=False)
    _costs: Counter[str] = field(default_factory=Counter, init=False)
    _failed_starts: int = field(default=0, init=False)
    _settled: int = field(default=0, init=False)
    _failed: int = field(default=0, init=False)
    _slices: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)
    _begun: float | None = field(default=None, init=False)
    _address: Address | None = field(default=None, init=False)

    def run(self) -> int:
        """Does what there is to do, and returns how many studies failed of those that this task did.

        What others work on when nothing else is left is left to them, as soon as they were seen to be there.

        Raises:
            CohortStoppedError: the run could not go on.
            OSError: the folder of results cannot be used.
        """
        self._open.extend(self.studies)
        try:
            while self._hand_out():
                if self._pool:
                    for worker, event in events_of(self._pool, _LOOKS_EVERY_S):
                        self._hear(worker, event)
                    self._end_late_ones()
                else:
                    time.sleep(_LOOKS_EVERY_S)
                self.on_progress(self._progress())
            return self._failed
        finally:
            for worker in self._pool:
                worker.kill()
            for study in (*self._again, *self._suspects, *(worker.study for worker in self._pool if worker.study)):
                with contextlib.suppress(OSError):
                    self.claims.release(study.name)

    def _hand_out(self) -> bool:
        """Gives a study to whoever is free; whether there is anything to wait for."""
        if not self._is_alone:
            free = [worker for worker in self._pool if worker.study is None]
            for _ in range(self.workers - len(self._pool) + len(free)):
                study = self._take()
                if study is None:
                    break
                if free:
                    free.pop().give(study)
                else:
                    self._pool.append(self._start_with(study))
        return bool(self._open or self._others or self._again or self._suspects or self._is_busy)

    @property
    def _is_busy(self) -> bool:
        return any(worker.study for worker in self._pool)

    @property
    def _is_alone(self) -> bool:
        """Whether a suspect is under way: should it cost another task, no other study is to be suspected for it."""
        return any(worker.study and self.claims.lost(worker.study.name) for worker in self._pool)

    def _start_with(self, study: Study) -> Worker:
        try:
            if self._address is None:
                self._address = self.address()
            worker = Worker.start(self._address, self.wanted, self.claims.scratch, self.study_s)
        except BaseException:
            self._again.append(study)  # To be released.
            raise
        worker.give(study)
        return worker

    def _take(self) -> Study | None:
        """The next study that nobody has; None where there is none, for now or at all."""
        if self._again:
            return self._again.popleft()
        while self._open:
            study = self._open.popleft()
            taking = self._try_to_take(study)
            if taking is Taking.TAKEN:
                return study
            if taking is not None:
                self._others.append(study)
        if not self._is_last_look:
            # Who was there an hour ago may be gone: from now on it counts whether they show themselves again.
            self._is_last_look = True
            self.claims.forget()
        for _ in range(len(self._others) if self._may_look_again() else 0):
            study = self._others.popleft()
            taking = self._try_to_take(study)
            if taking is Taking.TAKEN:
                return study
            if taking is Taking.UNSURE:
                self._others.append(study)
        return self._suspects.popleft() if self._suspects and not self._is_busy else None

    def _may_look_again(self) -> bool:
        """Whether it is time to ask once more for what others have: on a network that takes time."""
        now = time.monotonic()
        if now < self._looked_at + _LOOKS_EVERY_S:
            return False
        self._looked_at = now
        return True

    def _try_to_take(self, study: Study) -> Taking | None:
        """Takes a study that is not settled; None where it is."""
        if self._is_settled(study):
            return None
        taking = self.claims.take(study.name)
        if taking is not Taking.TAKEN:
            return taking
        # It may have been settled, and given back, in between.
        if self._is_settled(study):
            self.claims.release(study.name)
            return None
        if lost := self.claims.lost(study.name):
            if lost < _TASKS:
                self._suspects.append(study)
            else:
                self._give_up(
                    study, f"{lost} tasks that worked on it were killed, as those that take too much memory", 0.0
                )
            return None
        return taking

    def _is_settled(self, study: Study) -> bool:
        result = Result.read(folder_of(self.wanted.output, study.name))
        is_settled = result is not None and result.is_settled(self.wanted.run)
        self._settled += is_settled
        return is_settled

    def _hear(self, worker: Worker, event: object) -> None:
        study = worker.study
        if isinstance(event, Lost):
            raise CohortStoppedError(event.reason)
        if isinstance(event, Started):
            self._failed_starts = 0
            self._begun = self._begun or time.monotonic()
        elif isinstance(event, Result) and study is not None:
            worker.study = None
            self._slices += worker.slices.done
            self._settle(study, event)
        elif isinstance(event, Died):
            self._pool.remove(worker)
            worker.kill()
            if study is None:
                return
            if not worker.has_started:
                self._again.append(study)
                self._failed_starts += 1
                if self._failed_starts == _STARTS:
                    raise CohortStoppedError(f"no worker starts: {event.reason}")
                return
            self._costs[study.name] += 1
            if self._costs[study.name] < _ATTEMPTS:
                self._again.append(study)
            else:
                self._give_up(study, f"brought its worker down, {_ATTEMPTS} times: {event.reason}", worker.spent_s())

    def _end_late_ones(self) -> None:
        for worker in list(self._pool):
            study = worker.study
            if study is not None and worker.spent_s() > self.study_s:
                self._pool.remove(worker)
                worker.kill()
                self._give_up(study, f"took longer than {self.study_s:g} s", worker.spent_s())

    def _give_up(self, study: Study, reason: str, seconds: float) -> None:
        self._settle(study, Result(study.name, self.wanted.run, f"{study.path}: {reason}", round(seconds, 3)))

    def _settle(self, study: Study, result: Result) -> None:
        """Keeps an error; what went well is kept already."""
        if result.error is not None:
            # Whoever took it over while we were away may have done it.
            if not self.claims.has(study.name):
                self._others.append(study)
                return
            self._keep(study, result)
        self.claims.release(study.name)
        self._settled += 1
        self._failed += result.error is not None
        self._bytes += study.size
        self.on_result(result)

    def _keep(self, study: Study, result: Result) -> None:
        scratch = self.claims.scratch / "failed"
        try:
            scratch.mkdir(exist_ok=True)
            result.keep(folder_of(self.wanted.output, study.name), scratch, rename=self.wanted.rename)
        except OSError as error:
            # A folder of the study's that is another user's, say: it stays one that is not done.
            if error.errno in OF_ALL:
                raise

    def _progress(self) -> Progress:
        elapsed_s = time.monotonic() - self._begun if self._begun else 0.0
        busy = [(worker.study, worker.slices) for worker in self._pool if worker.study]
        under_way = sum(study.size * slices.done / max(slices.total, 1) for study, slices in busy)
        done = self._bytes + under_way
        left = (
            sum(study.size for study in (*self._open, *self._again, *self._suspects, *(study for study, _ in busy)))
            - under_way
        )
        # The others are as fast as we are.
        left_s = left * elapsed_s / done / self.claims.count_tasks() if done and elapsed_s > 1 else None
        slices = self._slices + sum(slices.done for _, slices in busy)
        return Progress(len(self.studies), self._settled, self._failed, slices, elapsed_s, left_s)
