"""The search for the limit, step by step: which stage tries a load, and what is done about one that says nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from loadtests.arrivals import Arrivals, Flat
from loadtests.calls import Mix
from loadtests.errors import FleetError
from loadtests.limit import BEYOND, Limit, Step, find_limit, judge, step_seconds
from loadtests.result import StageResult
from loadtests.run import FoundLimit
from loadtests.settings import Settings
from loadtests.slo import Slo
from loadtests.stage import Stage, told_share

START: Final = {"rate": 8.0, "users": 1.0}
"""Where a search begins."""

WARM_UP_S: Final = 2.0

TRIES: Final = 2
"""How often a load is tried that came to an invalid step."""


@dataclass(frozen=True)
class Plan:
    """What is searched for.

    Attributes:
        kind: `rate` or `users`.
        slo: what the load has to keep to.
        repeats: how many bisections.
        resolution: how closely they look, as a share.
        step_s: the shortest step, in seconds.
        step_max_s: the longest.
    """

    kind: Literal["rate", "users"]
    slo: Slo
    repeats: int = 3
    resolution: float = 0.05
    step_s: float = 10.0
    step_max_s: float = 60.0


@dataclass
class Search:
    """One search; what it has tried so far is there whenever it ends, however that is.

    Attributes:
        plan: what is searched for.
        settings: what the test is told.
        mix: what is asked.
        prevalence: see `Stage`.
        measure: runs a stage.
        say: is told of each step.
    """

    plan: Plan
    settings: Settings
    mix: Mix
    prevalence: float | None
    measure: Callable[[Stage], StageResult]
    say: Callable[[str], None]
    _steps: list[Step] = field(default_factory=list)
    _best: dict[int, tuple[float, float]] = field(default_factory=dict)
    _rate: float = 0.0
    _is_complete: bool = False

    def run(self) -> None:
        """Searches.

        Raises:
            FleetError: a worker was lost: what is left of the fleet would make another load.
        """
        plan = self.plan
        find_limit(
            self._probe,
            start=(self.settings.users if plan.kind == "users" else self.settings.rate) or START[plan.kind],
            resolution=plan.resolution,
            repeats=plan.repeats,
            is_whole=plan.kind == "users",
            # Fewer arrivals than that in the longest step, and chance decides whether there are any.
            least=BEYOND / max(plan.step_s, plan.step_max_s),
        )
        self._is_complete = True

    @property
    def found(self) -> FoundLimit | None:
        """What was found so far; None where no step came to its end."""
        if not self._steps:
            return None
        limit = Limit(tuple(self._steps), self.plan.resolution, self._is_complete)
        best = [throughput for _, throughput in self._best.values()]
        throughput = sum(best) / len(best) if best else None
        return FoundLimit(self.plan.kind, self.prevalence, limit, throughput)

    def _probe(self, load: float, repeat: int) -> Step:
        for attempt in range(TRIES):
            result = self.measure(self._stage(load, repeat, attempt))
            if result.lost:
                raise FleetError(f"workers were lost in {result.stage.name!r}: {', '.join(result.lost)}")
            step = judge(result, self.plan.slo, load, repeat)
            told = "passed" if step.passed else f"failed: {'; '.join(step.faults)}"
            self.say("  " + "; ".join(filter(None, [told, step.note])))
            if step.is_valid:
                break
        self._steps.append(step)
        self._rate = result.figures["rate"] or 0.0
        if step.passed:
            best = step.order, result.figures["throughput"] or 0.0
            self._best[repeat] = max(self._best.get(repeat, best), best)
        return step

    def _stage(self, load: float, repeat: int, attempt: int) -> Stage:
        plan, is_closed = self.plan, self.plan.kind == "users"
        seed = self.settings.seed + 1000 * repeat + 100 * attempt
        # How fast users are answered is known of the step before only: of the first one, nothing.
        rate = self._rate if is_closed else load
        seconds = WARM_UP_S + step_seconds(rate, plan.slo, least_s=plan.step_s, most_s=plan.step_max_s)
        again = ", again" * attempt
        return Stage(
            f"{load:.4g}{' users' if is_closed else '/s'}, {told_share(self.prevalence)}, search {repeat + 1}{again}",
            seconds,
            None if is_closed else Arrivals(Flat(load), self.settings.process, seed),
            users=int(load) if is_closed else 0,
            mix=self.mix,
            prevalence=self.prevalence,
            warm_up_s=WARM_UP_S,
            seed=seed,
        )
