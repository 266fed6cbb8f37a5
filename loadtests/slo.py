"""Service level objectives: `p99<250ms,errors<0.1%`."""

import math
import re
from dataclasses import dataclass
from typing import Final

from loadtests.errors import SettingsError
from loadtests.result import StageResult

_OBJECTIVE: Final = re.compile(r"\s*([a-z]+)(\d+(?:\.\d+)?)?\s*(<=?|>=?)\s*(\d+(?:\.\d+)?)\s*(us|ms|s|%|/s)?\s*")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_EXPECTED: Final = (
    "expected objectives with commas between, as in p99<250ms,errors<0.1%: of latency pN, mean or max (us, ms or s), "
    "errors (%) or throughput (/s, slices)"
)


@dataclass(frozen=True)
class Objective:
    """One condition.

    Attributes:
        text: as it was written.
        figure: `latency`, `mean`, `max`, `errors` or `throughput`.
        percent: of the latency's percentile; None for the other figures.
        is_upper: whether the figure has to stay below the limit, or above it.
        includes_limit: whether it may be the limit itself.
        limit: in seconds, as a share, or in slices a second.
    """

    text: str
    figure: str
    percent: float | None
    is_upper: bool
    includes_limit: bool
    limit: float

    def measured(self, result: StageResult) -> float | None:
        """The figure of a stage, in the limit's unit; None where there is none.

        A request that failed is slower than any limit: a server that refuses half of them at once is not fast.
        """
        total = result.record.total
        latency, failed = total.corrected, total.failed + result.record.unfinished
        if not latency.count and self.figure in ("latency", "mean", "max"):
            return None
        match self.figure:
            case "latency":
                assert self.percent is not None  # noqa: S101  the parser saw to it
                return latency.percentile(self.percent, failed)
            case "mean":
                return math.inf if failed else latency.mean_s
            case "max":
                return math.inf if failed else latency.longest_s
            case name:
                return result.figures[name]

    def is_met(self, result: StageResult) -> bool:
        """Whether a stage keeps to it; one without the figure does not."""
        value = self.measured(result)
        if value is None:
            return False
        if math.isclose(value, self.limit):
            return self.includes_limit
        return (value < self.limit) == self.is_upper

    def told(self, result: StageResult) -> str:
        """The condition and what was found, in words."""
        value = self.measured(result)
        if value is None:
            return f"{self.text}: nothing was answered"
        if value == math.inf:
            return f"{self.text}: {100 * (result.figures['errors'] or 0):.3g}% failed, which counts as slower than that"
        unit = {"errors": f"{100 * value:.3g}%", "throughput": f"{value:.1f}/s"}
        return f"{self.text}: {unit.get(self.figure, f'{1000 * value:.1f} ms')}"


@dataclass(frozen=True)
class Slo:
    """Conditions that all have to be met; latencies count from when a request was scheduled, and failing as endless."""

    objectives: tuple[Objective, ...]

    @classmethod
    def parse(cls, text: str) -> "Slo":
        """Reads objectives.

        Raises:
            SettingsError: one cannot be parsed; says which, and what is expected.
        """
        return cls(tuple(_objective(part) for part in text.split(",")))

    def broken(self, result: StageResult) -> list[str]:
        """The conditions that a stage does not meet, in words."""
        return [objective.told(result) for objective in self.objectives if not objective.is_met(result)]

    @property
    def sharpest_percent(self) -> float:
        """The highest percentile that is spoken of, `errors<0.1%` as 99.9; 50 where there is none."""
        errors = [100 - 100 * each.limit for each in self.objectives if each.figure == "errors"]
        return max([50.0, *errors, *(each.percent for each in self.objectives if each.percent)])

    def __str__(self) -> str:
        """As it was written."""
        return ",".join(objective.text for objective in self.objectives)


def _objective(text: str) -> Objective:
    found = _OBJECTIVE.fullmatch(text)
    if not found:
        raise SettingsError(f"--slo: cannot read {text.strip()!r}; {_EXPECTED}")
    name, number, sign, limit, unit = found.groups()
    percent = float(number) if number else None
    is_latency = (name == "p" and percent is not None) or (name in ("mean", "max") and percent is None)
    units = _SECONDS if is_latency else {"errors": {"%": 0.01}, "throughput": {"/s": 1.0}}.get(name, {})
    if unit not in units or (percent is not None and not (is_latency and 0 < percent <= 100)):
        raise SettingsError(f"--slo: cannot read {text.strip()!r}; {_EXPECTED}")
    return Objective(
        text=text.strip(),
        figure="latency" if name == "p" else name,
        percent=percent,
        is_upper=sign.startswith("<"),
        includes_limit=sign.endswith("="),
        limit=float(limit) * units[unit],
    )
