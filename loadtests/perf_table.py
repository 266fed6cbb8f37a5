"""What perf_analyzer writes, read; plain code, apart from the program that runs it."""

import csv
from dataclasses import dataclass

from loadtests.errors import LoadTestError


@dataclass(frozen=True)
class Load:
    """What both are told to send: requests under way at a time, or arrivals a second."""

    concurrency: int = 0
    rate: float = 0.0

    def __str__(self) -> str:
        """In words."""
        return f"{self.concurrency} under way" if self.concurrency else f"{self.rate:g}/s"


@dataclass(frozen=True)
class Measured:
    """Answers a second, and latencies from sending, in milliseconds; and why they say nothing, where they do not."""

    throughput: float
    p50_ms: float
    p99_ms: float
    faults: tuple[str, ...] = ()


def read_table(text: str, load: Load) -> Measured:
    """Reads what perf_analyzer writes with `-f`: a line for each load, latencies in microseconds.

    Raises:
        LoadTestError: it is not one line with these columns.
    """
    try:
        [row] = csv.DictReader(text.splitlines())
        rate, p50_us, p99_us = (float(row[name]) for name in ("Inferences/Second", "p50 latency", "p99 latency"))
    except (ValueError, KeyError, TypeError) as error:
        raise LoadTestError(f"perf_analyzer's table at {load} cannot be read ({error!r}): {text[:500]}") from error
    return Measured(rate, p50_us / 1000, p99_us / 1000)
