"""The largest load that a server sustains, found by bisection and told with an interval.

A load passes when its step keeps to the SLO, is valid and is steady (`steady_fault`). Each repeat is a bisection of its
own, with other arrivals; the limit is the mean of what they find, with Student's interval.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from loadtests.result import StageResult
from loadtests.slo import Slo

BEYOND: Final = 5
"""A step is long enough for this many answers beyond the SLO's sharpest percentile."""

GROWTH, SLACK = 1.5, 2.0
"""A step is steady if, at the mean arrival of its last third, requests under way are at most GROWTH times those of the
middle third, and SLACK more."""

FEWEST: Final = 1 / 1024
"""The search gives up below this part of where it began."""

RULE: Final = (
    f"A step lasts its warm-up and then long enough for {BEYOND} answers beyond the SLO's sharpest percentile, within "
    "the limits that were given. It passes if it keeps to the SLO, the generator kept to the schedule, and it was "
    f"steady: in its last third the mean number of requests under way was at most {GROWTH:g} times that of its middle "
    f"third, and {SLACK:g} more."
)


@dataclass(frozen=True)
class Step:
    """One load that was tried.

    Attributes:
        load: arrivals a second, or users.
        repeat: of which bisection, from 0.
        faults: why it did not pass; empty if it did.
        is_valid: whether it says anything about the server.
    """

    load: float
    repeat: int
    faults: tuple[str, ...] = ()
    is_valid: bool = True

    @property
    def passed(self) -> bool:
        """Whether the server sustained it."""
        return not self.faults


@dataclass(frozen=True)
class Limit:
    """The largest load that was sustained.

    Attributes:
        found: what each bisection found; 0 where nothing passed.
        steps: all that were tried.
        resolution: how closely a bisection looked: the next load that failed is at most this much higher.
    """

    found: tuple[float, ...]
    steps: tuple[Step, ...] = field(repr=False)
    resolution: float = 0.0

    @property
    def load(self) -> float:
        """The mean of what was found."""
        return statistics.fmean(self.found) if self.found else 0.0

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% confidence interval of the mean, by Student's t; None for a single bisection."""
        count = len(self.found)
        if count < 2:
            return None
        from scipy.stats import t

        half = float(t.ppf(0.975, count - 1)) * statistics.stdev(self.found) / math.sqrt(count)
        return max(0.0, self.load - half), self.load + half

    @property
    def is_generators(self) -> bool:
        """Whether what failed was, at the limit, the generator and not the server."""
        failed = [step for step in self.steps if not step.passed]
        return bool(failed) and not min(failed, key=lambda step: step.load).is_valid

    def to_json(self) -> dict[str, Any]:
        """As the report's JSON has it."""
        return {
            "load": self.load,
            "interval": self.interval,
            "found": list(self.found),
            "resolution": self.resolution,
            "is_generators": self.is_generators,
            "steps": [vars(step) | {"passed": step.passed} for step in self.steps],
        }


def find_limit(
    probe: Callable[[float, int], Step],
    *,
    start: float,
    resolution: float = 0.05,
    repeats: int = 3,
    is_whole: bool = False,
) -> Limit:
    """Searches for the largest load that passes.

    Args:
        probe: tries a load, for a repeat.
        start: the first load that is tried.
        resolution: where to stop: the highest that passed and the lowest that failed are at most this share apart.
        repeats: how many bisections.
        is_whole: whether loads are whole numbers, such as users.
    """
    found: list[float] = []
    steps: list[Step] = []

    def passes(load: float, repeat: int) -> bool:
        steps.append(probe(load, repeat))
        return steps[-1].passed

    for repeat in range(repeats):
        # The first search knows nothing; the others begin where it ended.
        known = bool(found and found[-1])
        begin, factor = (found[-1], 1 + 3 * resolution) if known else (start, 2.0)
        found.append(_bisect(lambda load, repeat=repeat: passes(load, repeat), begin, factor, resolution, is_whole))  # type: ignore[misc]
    return Limit(tuple(found), tuple(steps), resolution)


def _bisect(passes: Callable[[float], bool], start: float, factor: float, resolution: float, is_whole: bool) -> float:
    load = max(1.0, round(start)) if is_whole else start
    low, high = 0.0, math.inf
    while not low or high == math.inf:
        if passes(load):
            low = load
            load = max(load + 1, round(load * factor)) if is_whole else load * factor
        else:
            high = load
            load = min(load - 1, round(load / factor)) if is_whole else load / factor
            if load < (1 if is_whole else start * FEWEST):
                return 0.0
        if low and load >= high:
            break
    while high - low > 1 if is_whole else high / low > 1 + resolution:
        middle = float((low + high) // 2) if is_whole else math.sqrt(low * high)
        if is_whole and high / low <= 1 + resolution:
            break
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def step_seconds(load: float, slo: Slo, *, least_s: float, most_s: float) -> float:
    """How long a step at a rate has to be counted, in seconds."""
    beyond = 1 - slo.sharpest_percent / 100
    needed_s = BEYOND / beyond / load if beyond else most_s
    return min(max(least_s, needed_s), max(least_s, most_s))


def judge(result: StageResult, slo: Slo, load: float, repeat: int) -> Step:
    """Whether a stage says that its load is sustained."""
    invalid = result.faults
    steady = steady_fault(result)
    faults = [*invalid, *slo.broken(result), *([steady] if steady else [])]
    return Step(load, repeat, tuple(faults), is_valid=not invalid)


def steady_fault(result: StageResult) -> str | None:
    """Why a stage was not steady; None where it was, and for a closed loop, which cannot pile up."""
    if not result.stage.is_open:
        return None
    seconds = result.stage.counted_s
    thirds = [[0, 0], [0, 0], [0, 0]]
    for second, window in result.record.windows.items():
        third = thirds[min(2, int(3 * second / seconds))]
        third[0] += window.in_flight
        third[1] += window.sent
    _, middle, last = (under_way / sent if sent else 0.0 for under_way, sent in thirds)
    if last > GROWTH * middle + SLACK:
        return f"not steady: {middle:.1f} requests were under way in the middle third, {last:.1f} in the last"
    return None
