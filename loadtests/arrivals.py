"""When requests arrive: schedules that are fixed before the first one is sent, and do not heed the answers.

A profile says how many arrivals are expected up to any time. Arrivals are the points of a process of unit rate, random
(Poisson) or evenly spaced, carried onto the clock by the inverse of that expectation: one way for every profile.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from loadtests.errors import SettingsError

Times = NDArray[np.float64]
"""Seconds from the beginning of a stage, (count,)."""

Process = Literal["poisson", "constant"]

GRID_S: Final = 0.01
"""How finely a profile is inverted; between two points its rate counts as constant."""


class Profile(Protocol):
    """How many arrivals are expected up to any time."""

    def expected(self, times: Times) -> Times:
        """The expected number of arrivals from 0 to each time, growing with time."""
        ...


@dataclass(frozen=True)
class Flat:
    """The same rate all the time, in arrivals a second."""

    rate: float

    def __post_init__(self) -> None:
        _check("rate", self.rate)

    def expected(self, times: Times) -> Times:
        """See `Profile`."""
        return self.rate * times


@dataclass(frozen=True)
class Steps:
    """One rate after the other.

    Attributes:
        steps: pairs of a duration in seconds and a rate; the last rate goes on for as long as it takes.
    """

    steps: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        for duration_s, rate in self.steps:
            _check("rate", rate)
            _check("duration of a step", duration_s)

    def expected(self, times: Times) -> Times:
        """See `Profile`."""
        durations, rates = np.array(self.steps).T
        ends = np.concatenate([[0.0], np.cumsum(durations)])
        counts = np.concatenate([[0.0], np.cumsum(durations * rates)])
        beyond = np.maximum(times - ends[-1], 0.0) * rates[-1]
        return np.asarray(np.interp(times, ends, counts) + beyond)


@dataclass(frozen=True)
class Wave:
    """A sinusoid that begins at its lowest: a working day from night to night.

    Attributes:
        low: the lowest rate.
        high: the highest rate, half a period later.
        period_s: seconds from one lowest to the next.
    """

    low: float
    high: float
    period_s: float

    def __post_init__(self) -> None:
        _check("rate", self.low)
        _check("rate", self.high)
        _check("period", self.period_s)

    def expected(self, times: Times) -> Times:
        """See `Profile`."""
        mean, swing, turn = (self.high + self.low) / 2, (self.high - self.low) / 2, 2 * np.pi / self.period_s
        return np.asarray(mean * times - swing / turn * np.sin(turn * times))


_PROFILES: Final = {"flat": Flat, "steps": Steps, "wave": Wave}


@dataclass(frozen=True)
class Arrivals:
    """A schedule; the same one gives the same times.

    Attributes:
        profile: how many are expected when.
        process: `poisson`, at random and independent of each other, or `constant`, evenly spaced.
        seed: of the random ones, 0 or more.
    """

    profile: Flat | Steps | Wave
    process: Process = "poisson"
    seed: int = 0

    def times(self, duration_s: float) -> Times:
        """All arrivals before `duration_s`, in their order."""
        grid = np.linspace(0.0, duration_s, max(2, round(duration_s / GRID_S)))
        expected = self.profile.expected(grid)
        units = self._units(float(expected[-1]))
        return np.asarray(np.interp(units[units < expected[-1]], expected, grid))

    def expected(self, duration_s: float) -> float:
        """How many arrivals there will be, about."""
        return float(self.profile.expected(np.array([0.0, duration_s]))[-1])

    def _units(self, total: float) -> Times:
        """Points of a process of rate 1, at least all of those up to `total`."""
        if self.process == "constant":
            return np.asarray(np.arange(np.ceil(total)) + 0.5)
        generator = np.random.Generator(np.random.PCG64(self.seed))
        # Six standard deviations beyond what is expected: short of `total` once in a billion times, and then goes on.
        points = np.cumsum(generator.standard_exponential(int(total + 6 * np.sqrt(total)) + 16))
        while points[-1] < total:
            points = np.concatenate([points, points[-1] + np.cumsum(generator.standard_exponential(1024))])
        return np.asarray(points)

    def to_json(self) -> dict[str, Any]:
        """The schedule as a message or a report has it."""
        name = next(name for name, kind in _PROFILES.items() if isinstance(self.profile, kind))
        return {"profile": name, **vars(self.profile), "process": self.process, "seed": self.seed}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Arrivals":
        """The schedule that `to_json` was called on."""
        values = dict(content)
        kind, process, seed = _PROFILES[values.pop("profile")], values.pop("process"), values.pop("seed")
        if kind is Steps:
            values["steps"] = tuple(tuple(step) for step in values["steps"])
        return cls(kind(**values), process, seed)


def share(arrivals: NDArray[Any], index: int, count: int) -> NDArray[Any]:
    """What worker `index` of `count` takes of one schedule: every arrival is exactly one worker's."""
    return arrivals[index::count]


def _check(name: str, value: float) -> None:
    if not 0 < value < np.inf:
        raise SettingsError(f"{name} is {value:g}, expected above 0")
