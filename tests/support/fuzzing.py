"""How long the fuzzers run, and what they tell at the end."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

FOUND = Path(__file__).parents[2] / "build" / "fuzz"
"""Where what is found goes."""


@dataclass
class Run:
    """So many seconds or inputs, whichever is over first.

    Attributes:
        name: of the fuzzer.
        seconds: how long it lasts.
        count: inputs at most.
        seed: that all inputs follow from.
        inputs: how many there were.
        found: what is wrong, one line each.
    """

    name: str
    seconds: float
    count: int
    seed: int
    inputs: int = 0
    found: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def parse(cls, name: str, description: str | None, arguments: Sequence[str] | None = None) -> Self:
        """Reads the command line of one."""
        parser = argparse.ArgumentParser(prog=f"python -m tests.fuzz_{name}", description=description)
        parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="(%(default)g)")
        parser.add_argument("--count", type=int, default=10**9, metavar="N", help="inputs at most")
        parser.add_argument("--seed", type=int, default=1, metavar="N", help="(%(default)s)")
        return cls(name, **vars(parser.parse_args(arguments)))

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self.seconds - (time.monotonic() - self.started)

    @property
    def is_over(self) -> bool:
        """Whether that was all."""
        return self.left_s <= 0 or self.inputs >= self.count

    def tell(self) -> int:
        """Prints what there was, and returns the exit code: 1 where something was found."""
        took_s = time.monotonic() - self.started
        rate, found = self.inputs / took_s, len(self.found)
        print(
            f"{self.name}, seed {self.seed}: {self.inputs} inputs in {took_s:.0f} s, {rate:.0f} a second, {found} found"
        )
        for line in self.found:
            print(f"  {line}")
        return 1 if self.found else 0
