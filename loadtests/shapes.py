"""Shapes of Locust's load, as `--shape` and `--class-picker` of `locustfile.py` offer them.

Locust's own options say how much: `-u` is the most users that there are at a time, `-t` how long all of it takes.
"""

import math
from abc import abstractmethod
from typing import Any

from locust import LoadTestShape
from locust.env import Environment

RUN_TIME_S = 60.0
"""Where `-t` is not given."""


class Shape(LoadTestShape):
    """How many users there are as a test goes on."""

    abstract = True
    use_common_options = True

    @abstractmethod
    def users(self, done: float, most: int) -> float:
        """The users at this share of the run time, `most` of them at most."""

    def tick(self) -> tuple[int, float] | None:
        """See Locust."""
        assert self.runner is not None  # noqa: S101  Locust asks only while it runs
        options = self.runner.environment.parsed_options
        assert options is not None  # noqa: S101  there is a command line
        seconds: float = self.get_run_time()  # type: ignore[no-untyped-call]
        done, most = seconds / (options.run_time or RUN_TIME_S), options.num_users or 1
        return (max(1, round(self.users(done, most))), options.spawn_rate or most) if done < 1 else None


class Ramp(Shape):
    """1, 2, 4 … users: where does throughput stop growing?"""

    def users(self, done: float, most: int) -> float:
        """Doubles them, for as long each time."""
        return min(most, 2.0 ** int(done * (1 + math.ceil(math.log2(most)))))


class Step(Shape):
    """A quarter of the users, a half, three quarters, all."""

    def users(self, done: float, most: int) -> float:
        """A quarter of them more each time."""
        return most * (1 + int(4 * done)) / 4


class Spike(Shape):
    """A fifth of the users, and in between all of them."""

    def users(self, done: float, most: int) -> float:
        """All of them for a fifth of the time."""
        return most if 0.4 <= done < 0.6 else most / 5


class Day(Shape):
    """A working day: from a tenth of the users to all of them, and back."""

    def users(self, done: float, most: int) -> float:
        """A sinusoid."""
        return most * (0.55 - 0.45 * math.cos(2 * math.pi * done))


SHAPES = {shape.__name__: shape for shape in (Ramp, Step, Spike, Day)}


def add_option(parser: Any) -> None:
    """Adds `--shape`; the web UI has `--class-picker` for it."""
    parser.add_argument("--shape", choices=SHAPES, include_in_web_ui=False, help="how many users there are, and when")


def offer(environment: Environment) -> None:
    """Has Locust offer all shapes and take the one that was asked for; without one it starts `-u` users."""
    assert environment.parsed_options is not None  # noqa: S101  there is a command line
    offered: dict[str, LoadTestShape] = {name: shape() for name, shape in SHAPES.items()}
    for shape in offered.values():
        shape.runner = environment.runner
    environment.available_shape_classes = offered
    environment.shape_class = offered.get(environment.parsed_options.shape)
