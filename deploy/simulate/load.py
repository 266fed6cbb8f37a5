"""A day's load: requests a second, by the time of day."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400.0


@dataclass(frozen=True)
class Load:
    """Requests a second, straight from point to point.

    Attributes:
        times_s: when, in seconds from the beginning, rising from 0; the last one is the end.
        rates: requests a second, of the same length.
    """

    times_s: NDArray[np.float64]
    rates: NDArray[np.float64]

    @classmethod
    def wave(cls, night: float, peak: float) -> "Load":
        """A sinusoid over a day: `night` at both ends, `peak` at noon."""
        times = np.arange(0.0, DAY_S + 1, 300.0)
        return cls(times, night + (peak - night) * (1 - np.cos(2 * np.pi * times / DAY_S)) / 2)

    @classmethod
    def read(cls, path: Path) -> "Load":
        """Reads a CSV file with the columns `seconds` and `rate`.

        Raises:
            ValueError: names the file, the line, what was found and what was expected.
        """
        times: list[float] = []
        rates: list[float] = []
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if not {"seconds", "rate"} <= set(rows.fieldnames or ()):
                raise ValueError(f"{path}: the columns are {rows.fieldnames}, expected seconds and rate")
            for row in rows:
                try:
                    time, rate = float(row["seconds"]), float(row["rate"])
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{path}, line {rows.line_num}: {error}") from error
                if not (np.isfinite(time) and np.isfinite(rate) and rate >= 0):
                    raise ValueError(f"{path}, line {rows.line_num}: {time:g}, {rate:g}: expected finite, rate from 0")
                if time <= times[-1] if times else time != 0:
                    raise ValueError(f"{path}, line {rows.line_num}: seconds are {time:g}, expected from 0 and rising")
                times.append(time)
                rates.append(rate)
        if len(times) < 2:
            raise ValueError(f"{path}: {len(times)} lines, expected two or more")
        return cls(np.array(times), np.array(rates))

    @property
    def duration_s(self) -> float:
        """How long it lasts, in seconds."""
        return float(self.times_s[-1])

    def rate(self, time_s: float) -> float:
        """Requests a second at a time."""
        return float(np.interp(time_s, self.times_s, self.rates))
