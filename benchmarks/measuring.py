"""The rounds: every system in turn, started, warmed up, asked, and ended; then again."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.agreement import References, WrongAnswersError
from benchmarks.environments import NotInstallableError
from benchmarks.measured import Measured
from benchmarks.pair import Images
from benchmarks.processes import FailedError
from benchmarks.systems import Running, System
from benchmarks.workload import Workload

FIRST = 10
"""How many requests, one after the other, a server is met with when it has just become ready."""

SHORT = 4
"""By what the slices of a slow system are divided."""

TURNOVERS = 10
"""So many times what is under way is asked at least, the workload over and over where it is smaller: the first requests
meet a server that is empty, and the last ones leave one."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        rounds: how often.
        workloads: one for each prevalence, the main one first.
        in_flight: requests under way at a time, of those that a system has.
        others_in_flight: the same where the prevalence is not the main one.
        turnovers: see `TURNOVERS`.
    """

    rounds: int
    workloads: Sequence[Workload]
    in_flight: Sequence[int]
    others_in_flight: Sequence[int]
    turnovers: int

    def counts(self, system: System, workload: Workload) -> list[int]:
        """How many requests are under way at a time, in turn; of what has batches all, as its best is looked for."""
        if system.in_process:
            return list(system.in_flight)
        wanted = self.in_flight if workload is self.workloads[0] else self.others_in_flight
        return [count for count in system.in_flight if count in wanted] or [*system.in_flight[-1:]]

    def places(self, system: System, workload: Workload, count: int) -> list[int]:
        """Of the slices that are asked about: whole workloads, so that the gate opens for the same share of them."""
        slices = len(workload.images) // SHORT if system.short else len(workload.images)
        times = 1 if system.in_process else -(-self.turnovers * count // slices)
        return [*range(slices)] * max(1, times)


@dataclass(frozen=True)
class Key:
    """What a row is about.

    Attributes:
        system: its name.
        engine: what computes the networks.
        kind: `System.kind`.
        in_flight: requests under way at a time, or the batch size of a limit.
        prevalence: the share of slices that shows tumor.
    """

    system: str
    engine: str
    kind: str
    in_flight: int
    prevalence: float


@dataclass
class Record:
    """What was measured for a row, round by round.

    Attributes:
        measured: one for each round.
        peak_bytes: of memory, one for each round.
    """

    measured: list[Measured] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Slices a second, one for each round."""
        return [len(each.areas) / each.seconds for each in self.measured]


@dataclass
class Start:
    """How a system came up, round by round.

    Attributes:
        ready_s: seconds until it was ready.
        first_s: seconds of its first requests, each (FIRST,).
    """

    ready_s: list[float] = field(default_factory=list)
    first_s: list[list[float]] = field(default_factory=list)


@dataclass
class Results:
    """All that was measured.

    Attributes:
        records: by row.
        starts: by name and engine of a system.
        errors: what kept a system from being measured, by its name and engine; nothing else is kept of it.
        rounds: how many have come to their end.
    """

    records: dict[Key, Record] = field(default_factory=lambda: defaultdict(Record))
    starts: dict[tuple[str, str], Start] = field(default_factory=lambda: defaultdict(Start))
    errors: dict[tuple[str, str], str] = field(default_factory=dict)
    rounds: int = 0

    def fail(self, system: System, error: str) -> None:
        """Drops a system: half of what it was to do is nothing to hold against the others."""
        self.errors[system.name, system.engine] = error
        for key in [key for key in self.records if (key.system, key.engine) == (system.name, system.engine)]:
            del self.records[key]
        self.starts.pop((system.name, system.engine), None)


def measure(
    systems: Sequence[System], plan: Plan, console: Console, after_round: Callable[[Results], None] = lambda _: None
) -> Results:
    """Measures all systems in every round; one that fails is left out from then on, with its error.

    Args:
        systems: which.
        plan: what of them.
        console: shows the progress.
        after_round: told what there is, each time.

    Returns:
        All; after Ctrl-C what there was until then.
    """
    results = Results()
    references = References()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=plan.rounds * len(systems))
        try:
            for _ in range(plan.rounds):
                for system in systems:
                    progress.update(task, description=f"{system.name}, {system.engine}")
                    if (system.name, system.engine) not in results.errors:
                        _take_turn(system, plan, references, results)
                    progress.advance(task)
                results.rounds += 1
                after_round(results)
        except KeyboardInterrupt:
            progress.stop()
    return results


def _take_turn(system: System, plan: Plan, references: References, results: Results) -> None:
    try:
        with system.start() as running:
            _measure(system, running, plan, references, results)
    except (FailedError, NotInstallableError, WrongAnswersError) as error:
        results.fail(system, str(error))
    # Whatever a client raises, it is this system's, and the others go on.
    except Exception as error:
        results.fail(system, f"{type(error).__name__}: {error}")


def _measure(system: System, running: Running, plan: Plan, references: References, results: Results) -> None:
    start = results.starts[system.name, system.engine]
    start.ready_s.append(running.process.ready_s)
    # The same slice each time: what one costs depends on whether the gate opens.
    same = np.repeat(Workload.draw(1, prevalence=1.0).images, FIRST, axis=0)
    start.first_s.append(_one_by_one(running, same))
    for workload in plan.workloads:
        for in_flight in plan.counts(system, workload):
            places = plan.places(system, workload, in_flight)
            images = workload.images[places]
            running.ask(images[: 2 * in_flight], in_flight)
            running.process.take_peak()
            measured = running.ask(images, in_flight)
            if system.is_checked and system.kind != "always":
                references.check(measured, places, workload.prevalence, system.networks)
            record = results.records[Key(system.name, system.engine, system.kind, in_flight, workload.prevalence)]
            # Masks of hundreds of slices, of every row and round, are too much to keep.
            record.measured.append(replace(measured, masks=None))
            record.peak_bytes.append(running.process.take_peak())


def _one_by_one(running: Running, images: Images) -> list[float]:
    seconds = []
    for image in images:
        start = time.perf_counter()
        running.ask(image[np.newaxis], 1)
        seconds.append(time.perf_counter() - start)
    return seconds
