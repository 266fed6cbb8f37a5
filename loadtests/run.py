"""A whole run: its stages, the limits that were searched, and the verdict that the exit code tells."""

import math
from dataclasses import dataclass, field
from typing import Any

from loadtests.compare import FORMAT, Difference
from loadtests.limit import RULE, Limit
from loadtests.result import StageResult
from loadtests.slo import Slo
from loadtests.stage import told_share

EXIT_FAILED, EXIT_USAGE, EXIT_INVALID, EXIT_INTERRUPTED = 1, 2, 3, 130


@dataclass(frozen=True)
class FoundLimit:
    """A limit, and of what.

    Attributes:
        kind: `rate` or `users`.
        prevalence: see `Stage`.
        limit: what was found.
        throughput: slices a second, as a mean over the highest steps that passed, one of each bisection.
    """

    kind: str
    prevalence: float | None
    limit: Limit
    throughput: float | None = None

    @property
    def told(self) -> str:
        """In a line."""
        unit = "arrivals/s" if self.kind == "rate" else "users"
        interval = self.limit.interval
        within = f", 95% interval {interval[0]:.1f} to {interval[1]:.1f}" if interval else ""
        slices = f", {self.throughput:.1f} slices/s" if self.throughput else ""
        whose = "; the generator's own limit, not the server's" if self.limit.is_generators else ""
        if not self.limit.is_complete:
            low, high = self.limit.brackets[-1]
            above = f"{high:.1f}" if math.isfinite(high) else "no load known to fail"
            whose += f"; the search did not come to its end, and was between {low:.1f} and {above}"
        if not self.limit.load:
            lowest = min(self.limit.steps, key=lambda step: step.order)
            return f"{told_share(self.prevalence)}: no load passed, not even {lowest.load:.3g} {unit}{whose}"
        return f"{told_share(self.prevalence)}: {self.limit.load:.1f} {unit}{within}{slices}{whose}"

    def to_json(self) -> dict[str, Any]:
        """As the report's JSON has it."""
        return {
            "kind": self.kind,
            "prevalence": self.prevalence,
            "throughput": self.throughput,
            **self.limit.to_json(),
        }


@dataclass
class Run:
    """What was done so far; written as it is whenever the run ends, however that is.

    Attributes:
        scenario: its name.
        question: what it answers.
        environment: see `reports.environment`.
        slo: what the stages have to keep to.
        is_search: whether the run searches for a limit: it breaks the SLO on purpose.
        settings: see `Settings.to_json`.
        results: of the stages.
        limits: those that were searched.
        differences: from the baseline.
        problem: why the run did not come to its end; None where it did.
        was_interrupted: whether somebody ended it.
    """

    scenario: str
    question: str
    environment: dict[str, Any]
    slo: Slo | None = None
    is_search: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    results: list[StageResult] = field(default_factory=list)
    limits: list[FoundLimit] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    problem: str | None = None
    was_interrupted: bool = False

    def broken(self, result: StageResult) -> list[str]:
        """What a stage does not keep to, in words."""
        return self.slo.broken(result) if self.slo and not self.is_search else []

    @property
    def findings(self) -> list[str]:
        """What is wrong, the worst first, in words; empty for a run that is right."""
        found = [self.problem] if self.problem else []
        if not self.is_search:
            found += [f"{r.stage.name}: invalid: {fault}" for r in self.results for fault in r.faults]
            found += [f"{r.stage.name}: {r.failures}" for r in self.results if r.failures]
        found += [f"{r.stage.name}: objective missed: {missed}" for r in self.results for missed in self.broken(r)]
        found += [f"{limit.told}: {self.slo} is not kept to" for limit in self.limits if not limit.limit.load]
        return found + self.regressions

    @property
    def regressions(self) -> list[str]:
        """What is worse than in the baseline, in words."""
        return [
            f"{row.stage}: regression: {row.told} (p {row.p_value:.2g})"
            for row in self.differences
            if row.verdict == "regression"
        ]

    @property
    def unclear(self) -> list[str]:
        """What differs from the baseline by more than is tolerated, and too little was measured to tell why."""
        return [
            f"{row.stage}: unclear: {row.told}: chance, or too short a stage to tell"
            for row in self.differences
            if row.verdict == "unclear"
        ]

    @property
    def exit_code(self) -> int:
        """0 if all is right, 3 if a stage is invalid, 1 for anything worse.

        Worse is a problem, a missed objective, a regression, and a stage of which nothing was answered. A search breaks
        objectives on purpose: it is right when it found the server's limit, invalid where that was the generator's.
        """
        if self.was_interrupted:
            return EXIT_INTERRUPTED
        if self.problem or self.regressions or any(self.broken(result) for result in self.results):
            return EXIT_FAILED
        if self.is_search:
            if any(found.limit.is_generators for found in self.limits):
                return EXIT_INVALID
            return 0 if all(found.limit.load for found in self.limits) else EXIT_FAILED
        if any(result.record.sent and not result.figures["answered"] for result in self.results):
            return EXIT_FAILED
        if any(result.faults for result in self.results):
            return EXIT_INVALID
        return 0

    def to_json(self) -> dict[str, Any]:
        """As `report.json` has it."""
        return {
            "format": FORMAT,
            "scenario": self.scenario,
            "question": self.question,
            "exit_code": self.exit_code,
            "findings": self.findings,
            "problem": self.problem,
            "was_interrupted": self.was_interrupted,
            "slo": str(self.slo) if self.slo else None,
            "rule": RULE if self.is_search else None,
            "limits": [limit.to_json() for limit in self.limits],
            "differences": [row.to_json() for row in self.differences],
            "environment": self.environment,
            "settings": self.settings,
            "stages": [result.to_json() for result in self.results],
        }
