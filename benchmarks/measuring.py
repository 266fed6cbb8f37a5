"""The rounds: every system in turn, started, warmed up, asked, and ended; then again."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.environments import NotInstallableError
from benchmarks.measured import SHUT, Measured
from benchmarks.pair import Images
from benchmarks.processes import FailedError
from benchmarks.systems import Running, System
from benchmarks.workload import Workload

FIRST = 10
"""How many requests, one after the other, a server is met with when it has just become ready."""

SHORT = 4
"""By what the slices of a slow system are divided."""

MISMATCH = 0.02
"""The share of slices, and of pixels, in which a system may differ from the first: thresholds are met by a hair."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        rounds: how often.
        workloads: one for each prevalence, the main one first.
        in_flight: requests under way at a time, or batch sizes, of those that a system has.
        others_in_flight: the same where the prevalence is not the main one.
    """

    rounds: int
    workloads: Sequence[Workload]
    in_flight: Sequence[int]
    others_in_flight: Sequence[int]


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


@dataclass(frozen=True)
class Results:
    """All that was measured.

    Attributes:
        records: by row.
        starts: by name and engine of a system.
        errors: what kept a system from being measured, by its name and engine.
    """

    records: dict[Key, Record] = field(default_factory=lambda: defaultdict(Record))
    starts: dict[tuple[str, str], Start] = field(default_factory=lambda: defaultdict(Start))
    errors: dict[tuple[str, str], str] = field(default_factory=dict)


def measure(systems: Sequence[System], plan: Plan, console: Console) -> Results:
    """Measures all systems in every round; one that fails is left out from then on, with its error."""
    results = Results()
    expected: dict[float, NDArray[np.int64]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=plan.rounds * len(systems))
        for _ in range(plan.rounds):
            for system in systems:
                progress.update(task, description=f"{system.name}, {system.engine}")
                identity = (system.name, system.engine)
                if identity not in results.errors:
                    try:
                        with system.start() as running:
                            _measure(system, running, plan, expected, results)
                    except (FailedError, NotInstallableError, WrongAnswersError) as error:
                        results.errors[identity] = str(error)
                    # Whatever a client raises, it is this system's, and the others go on.
                    except Exception as error:
                        results.errors[identity] = f"{type(error).__name__}: {error}"
                progress.advance(task)
    return results


class WrongAnswersError(Exception):
    """A system does not find what the engines find: whatever it computes, it is not the same."""


def _measure(
    system: System, running: Running, plan: Plan, expected: dict[float, NDArray[np.int64]], results: Results
) -> None:
    start = results.starts[system.name, system.engine]
    start.ready_s.append(running.process.ready_s)
    main, *_ = plan.workloads
    # The same slice each time: what one costs depends on whether the gate opens.
    same = np.repeat(Workload.draw(1, prevalence=1.0).images, FIRST, axis=0)
    start.first_s.append(_one_by_one(running, same))
    for workload in plan.workloads:
        images = workload.images[: len(workload.images) // SHORT] if system.short else workload.images
        wanted = plan.in_flight if workload is main else plan.others_in_flight
        for in_flight in [count for count in system.in_flight if count in wanted] or system.in_flight[-1:]:
            running.ask(images[: 2 * in_flight], in_flight)
            running.process.take_peak()
            measured = running.ask(images, in_flight)
            if system.is_checked and system.kind != "always":
                _check(measured.areas, expected.setdefault(workload.prevalence, measured.areas))
            record = results.records[Key(system.name, system.engine, system.kind, in_flight, workload.prevalence)]
            record.measured.append(measured)
            record.peak_bytes.append(running.process.take_peak())


def _one_by_one(running: Running, images: Images) -> list[float]:
    seconds = []
    for image in images:
        start = time.perf_counter()
        running.ask(image[np.newaxis], 1)
        seconds.append(time.perf_counter() - start)
    return seconds


def _check(areas: NDArray[np.int64], expected: NDArray[np.int64]) -> None:
    expected = expected[: len(areas)]
    decided_otherwise = float(((areas == SHUT) != (expected == SHUT)).mean())
    if decided_otherwise > MISMATCH:
        raise WrongAnswersError(f"the gate decides otherwise in {decided_otherwise:.0%} of the slices")
    both = (areas != SHUT) & (expected != SHUT)
    apart = np.abs(areas[both] - expected[both]).sum() / max(1, expected[both].sum())
    if apart > MISMATCH:
        raise WrongAnswersError(f"masks differ by {apart:.0%} of their pixels")
