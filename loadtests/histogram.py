"""Durations, counted in buckets so fine that a percentile is right to 0.1%, and merged without any loss.

Adding two histograms adds their counts, so the percentile over all workers is the one that a single process would have
counted. (Percentiles themselves cannot be merged, nor averaged.) The buckets are those of an HDR histogram: a
microsecond wide up to two milliseconds, then 1024 of equal width in every doubling.
"""

import math
from collections.abc import Iterable
from typing import Any, Final

FINE_BITS: Final = 11
"""Durations below 2 ** FINE_BITS microseconds have a bucket each; a longer one keeps this many leading bits."""

MICROSECONDS: Final = 1_000_000


class Histogram:
    """Counts of durations.

    Attributes:
        counts: how many durations each bucket holds, by the bucket's number; buckets that hold none are left out.
        total_us: the sum of all durations, in whole microseconds.
        longest_us: the longest one.
    """

    __slots__ = ("counts", "longest_us", "total_us")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total_us = 0
        self.longest_us = 0

    @classmethod
    def of(cls, durations_s: Iterable[float]) -> "Histogram":
        """Counts durations, in seconds."""
        histogram = cls()
        for duration_s in durations_s:
            histogram.add(duration_s)
        return histogram

    @classmethod
    def merged(cls, histograms: Iterable["Histogram"]) -> "Histogram":
        """All that several histograms counted."""
        together = cls()
        for histogram in histograms:
            together.merge(histogram)
        return together

    def add(self, duration_s: float) -> None:
        """Counts one duration, in seconds; a negative one as 0."""
        value = max(0, round(duration_s * MICROSECONDS))
        shift = max(0, value.bit_length() - FINE_BITS)
        # Above the fine part each doubling adds half as many buckets as there are fine ones, and they follow on.
        bucket = (shift << (FINE_BITS - 1)) + (value >> shift)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total_us += value
        if value > self.longest_us:
            self.longest_us = value

    def merge(self, other: "Histogram") -> None:
        """Adds all that another histogram counted."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.total_us += other.total_us
        self.longest_us = max(self.longest_us, other.longest_us)

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(self.counts.values())

    @property
    def mean_s(self) -> float | None:
        """Their mean in seconds; None without any."""
        return self.total_us / count / MICROSECONDS if (count := self.count) else None

    @property
    def longest_s(self) -> float | None:
        """The longest in seconds; None without any."""
        return self.longest_us / MICROSECONDS if self.counts else None

    def percentile(self, percent: float, endless: int = 0) -> float | None:
        """The shortest duration that at least this percentage does not exceed, in seconds; None without any.

        Args:
            percent: above 0 and up to 100.
            endless: how many durations without an end there are besides; `math.inf` where the percentile is one.
        """
        # To nine digits, so that 99.9% of 1000 is the 999th whatever binary fractions make of it.
        left = max(1, -int(-round((self.count + endless) * percent / 100, 9) // 1))
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return min(_highest_us(bucket), self.longest_us) / MICROSECONDS
        return math.inf if endless else None

    def to_json(self) -> dict[str, Any]:
        """The histogram as a message or a report has it."""
        pairs = [[bucket, count] for bucket, count in sorted(self.counts.items())]
        return {"counts": pairs, "total_us": self.total_us, "longest_us": self.longest_us}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Histogram":
        """The histogram that `to_json` was called on."""
        histogram = cls()
        histogram.counts = {bucket: count for bucket, count in content["counts"]}  # noqa: C416  lists are no pairs
        histogram.total_us, histogram.longest_us = content["total_us"], content["longest_us"]
        return histogram


def _highest_us(bucket: int) -> int:
    """The highest duration that a bucket holds, in microseconds."""
    shift = max(0, (bucket >> (FINE_BITS - 1)) - 1)
    return (((bucket - (shift << (FINE_BITS - 1))) + 1) << shift) - 1
