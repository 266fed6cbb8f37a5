"""The largest load that a server sustains, found by bisection and told with an interval.

A load passes when its step keeps to the SLO, is valid and is steady (`steady_fault`). Each repeat is a bisection of its
own, which knows nothing of the others and has other arrivals; the limit is the mean of what they find.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from loadtests.record import Window
from loadtests.result import StageResult
from loadtests.slo import Slo

BEYOND: Final = 5
"""A step is long enough for this many answers beyond the SLO's sharpest share."""

GROWTH: Final = 0.02
"""A step is not steady if requests under way grow by more than this share of the arrivals, and not by chance."""

BLOCKS: Final = 12
"""How many blocks a step is cut into, where it is long enough, to see whether requests under way grow from one to the
next."""

SIGNIFICANCE: Final = 0.01

FEWEST: Final = 1 / 1024
"""The search gives up below this part of where it began."""

RULE: Final = (
    f"A step lasts its warm-up and then long enough for {BEYOND} answers beyond the SLO's sharpest percentile or share "
    "of errors, within the limits that were given; where those cut it short, it is said. It passes if it keeps to the "
    "SLO, the generator kept to the schedule, and it was steady: answers kept up with arrivals, so that requests under "
    f"way did not grow by more than {100 * GROWTH:g}% of the arrivals (Kendall's test, p below {SIGNIFICANCE:g}). A "
    "step that is invalid is tried once more."
)


@dataclass(frozen=True)
class Step:
    """One load that was tried.

    Attributes:
        load: arrivals a second that there really were, or users.
        repeat: of which bisection, from 0.
        faults: why it did not pass; empty if it did.
        is_valid: whether it says anything about the server.
        asked: arrivals a second that were expected, of which chance made `load`; None where it is the same.
        note: what its verdict rests on less than it should; empty where nothing is to be said.
    """

    load: float
    repeat: int
    faults: tuple[str, ...] = ()
    is_valid: bool = True
    asked: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the server sustained it."""
        return not self.faults

    @property
    def order(self) -> float:
        """What a bisection knows it by."""
        return self.load if self.asked is None else self.asked


@dataclass(frozen=True)
class Limit:
    """The largest load that was sustained.

    Attributes:
        steps: all that were tried.
        resolution: how closely a bisection looks: the lowest load that failed is at most this share above the highest
            that passed.
        is_complete: whether all bisections came to their end.
    """

    steps: tuple[Step, ...] = field(repr=False)
    resolution: float = 0.0
    is_complete: bool = True

    @property
    def brackets(self) -> tuple[tuple[float, float], ...]:
        """Of each bisection the highest load that passed, 0 where none did, and the lowest that failed, or infinity."""
        found = []
        for repeat in sorted({step.repeat for step in self.steps}):
            steps = sorted((step for step in self.steps if step.repeat == repeat), key=lambda step: step.order)
            low = next((step.load for step in reversed(steps) if step.passed), 0.0)
            high = next((step.load for step in steps if not step.passed), math.inf)
            found.append((low, max(low, high)))
        return tuple(found)

    @property
    def found(self) -> tuple[float, ...]:
        """What each bisection found: the highest load that passed; 0 where nothing did."""
        return tuple(low for low, _ in self.brackets)

    @property
    def load(self) -> float:
        """The mean of what was found."""
        return statistics.fmean(self.found) if self.found else 0.0

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% confidence interval of the limit; None for a single bisection, or one that did not come to its end.

        By Student's t, downwards from the mean of the loads that passed, and upwards from that of those that failed:
        the limit lies between them, and how far apart they are no repeat makes any smaller.
        """
        ends, count = self.brackets, len(self.brackets)
        if count < 2 or not self.is_complete:
            return None
        from scipy.stats import t

        lows, highs = zip(*ends, strict=True)
        student = float(t.ppf(0.975, count - 1)) / math.sqrt(count)
        low, high = (statistics.fmean(values) for values in (lows, highs))
        return max(0.0, low - student * statistics.stdev(lows)), high + student * statistics.stdev(highs)

    @property
    def is_generators(self) -> bool:
        """Whether what failed was, at the limit, the generator and not the server."""
        failed = [step for step in self.steps if not step.passed]
        return bool(failed) and not min(failed, key=lambda step: step.order).is_valid

    def to_json(self) -> dict[str, Any]:
        """As the report's JSON has it."""
        return {
            "load": self.load,
            "interval": self.interval,
            "found": list(self.found),
            "brackets": [[low, high if math.isfinite(high) else None] for low, high in self.brackets],
            "resolution": self.resolution,
            "is_complete": self.is_complete,
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
    least: float = 0.0,
) -> Limit:
    """Searches for the largest load that passes.

    Args:
        probe: tries a load, for a repeat.
        start: the first load that is tried.
        resolution: where to stop: the highest that passed and the lowest that failed are at most this share apart.
        repeats: how many bisections.
        is_whole: whether loads are whole numbers, such as users.
        least: below this load nothing is tried, for a step would say nothing.
    """
    steps: list[Step] = []

    def passes(load: float, repeat: int) -> bool:
        steps.append(probe(load, repeat))
        return steps[-1].passed

    floor = 1.0 if is_whole else max(least, start * FEWEST)
    for repeat in range(repeats):
        _bisect(lambda load, repeat=repeat: passes(load, repeat), start, floor, resolution, is_whole)  # type: ignore[misc]
    return Limit(tuple(steps), resolution)


def _bisect(passes: Callable[[float], bool], start: float, floor: float, resolution: float, is_whole: bool) -> None:
    load = max(1.0, round(start)) if is_whole else start
    low, high = 0.0, math.inf
    while not low or high == math.inf:
        if passes(load):
            low, load = load, load * 2
        else:
            high, load = load, float(load // 2) if is_whole else load / 2
            if load < floor and not low:
                return
        if low and load >= high:
            break
    while high / low > 1 + resolution and not (is_whole and high - low <= 1):
        middle = float((low + high) // 2) if is_whole else math.sqrt(low * high)
        low, high = (middle, high) if passes(middle) else (low, middle)


def requests_needed(slo: Slo) -> float:
    """How many requests a step needs for its verdict; infinitely many where none may be beyond a limit."""
    beyond = 1 - slo.sharpest_percent / 100
    return BEYOND / beyond if beyond else math.inf


def step_seconds(rate: float, slo: Slo, *, least_s: float, most_s: float) -> float:
    """How long a step at a rate has to be counted, in seconds."""
    return min(max(least_s, requests_needed(slo) / rate if rate else 0.0), max(least_s, most_s))


def judge(result: StageResult, slo: Slo, load: float, repeat: int) -> Step:
    """Whether a stage says that its load, as it was asked for, is sustained."""
    invalid = result.faults
    steady = steady_fault(result)
    faults = [*invalid, *slo.broken(result), *([steady] if steady else [])]
    offered = result.figures["offered_rate"]
    needed, sent = requests_needed(slo), result.record.sent
    # That a rate is what it is by chance may leave a step a tenth short, which is no news.
    is_short = math.isfinite(needed) and sent < 0.9 * needed
    note = f"{sent} requests, {needed:.0f} are needed: a longer --step-max-s tells more surely" if is_short else ""
    return Step(load if offered is None else offered, repeat, tuple(faults), not invalid, load, note)


def steady_fault(result: StageResult) -> str | None:
    """Why a stage was not steady; None where it was, and for a closed loop, which cannot pile up."""
    if not result.stage.is_open:
        return None
    seconds = int(result.elapsed_s)
    width = max(1, seconds // BLOCKS)
    times, under_way, sent = [], [], 0
    for first in range(0, seconds - width + 1, width):
        block = Window()
        for second in range(first, first + width):
            if window := result.record.windows.get(second):
                block.merge(window)
        if block.sent:
            times.append(first + width / 2)
            under_way.append(block.in_flight / block.sent)
        sent += block.sent
    if len(set(under_way)) < 2:
        return None
    from scipy.stats import kendalltau, linregress

    growth = float(linregress(times, under_way).slope) * seconds / sent
    if growth > GROWTH and kendalltau(times, under_way, alternative="greater").pvalue < SIGNIFICANCE:
        return f"not steady: requests under way grew, by {100 * growth:.1f}% of the arrivals"
    return None
