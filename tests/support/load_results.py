"""Stage results made by hand, whose figures are known."""

from collections.abc import Sequence

from loadtests.arrivals import Arrivals, Flat
from loadtests.record import Outcome, Record
from loadtests.result import StageResult
from loadtests.stage import Stage


def result_of(
    latencies_s: Sequence[float],
    *,
    errors: int = 0,
    duration_s: float = 10.0,
    name: str = "stage",
    in_flight: Sequence[int] | None = None,
) -> StageResult:
    """An open loop whose requests came evenly over its duration, were sent on time and took this long.

    Errors are spread among the answers.
    """
    record = Record()
    count, left = len(latencies_s) + errors, iter(latencies_s)
    for index in range(count):
        due = duration_s * index / count
        failed = (index + 1) * errors // count > index * errors // count
        took = 0.0 if failed else next(left)
        outcome = Outcome("gated", due, due, due + took, 1, error="ServerUnavailableError" if failed else None)
        record.add(outcome, in_flight[index] if in_flight else 0)
    record.scheduled = count
    record.last_s = min(record.last_s, duration_s)
    stage = Stage(name, duration_s, Arrivals(Flat(max(1.0, count / duration_s)), "constant"))
    return StageResult(stage, record)
