"""The goals, each beside its figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.pair import DOCUMENTED, OURS

PREVALENCE, IN_FLIGHT = 0.35, 16
_SDK, _BARE = "gliogate, SDK", "gliogate, tritonclient"


@dataclass(frozen=True)
class Goal:
    """One goal.

    Attributes:
        text: what is aimed at.
        figure: what was measured.
        bar: what the figure is held against.
        at_most: whether the figure is to stay below the bar, rather than to reach it.
    """

    text: str
    figure: float
    bar: float
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        """Whether it is."""
        return self.figure <= self.bar if self.at_most else self.figure >= self.bar


def goals(report: dict[str, Any]) -> list[Goal]:
    """Those that the report has figures for."""
    return list(_goals(report))


def _goals(report: dict[str, Any]) -> Iterator[Goal]:
    rows = [row for row in report["rows"] if "error" not in row]
    bare = _row(rows, _BARE)
    sdk = _row(rows, _SDK)
    for name, row in (("SDK", sdk), ("tritonclient", bare)):
        if row and row["ratio_to_limit"] is not None:
            yield Goal(f"served against the limit, {name}, {IN_FLIGHT} in flight", row["ratio_to_limit"], 0.95)
    if bare:
        yield Goal(f"p99 against p50, {IN_FLIGHT} in flight", bare["p99_ms"] / bare["p50_ms"], 2.0, at_most=True)
        yield Goal("peak memory of the server, GB", max(_peaks(rows)) / 1e3, 1.5, at_most=True)
        documented = _best(rows, DOCUMENTED)
        if documented:
            yield Goal("times the best server on ONNX Runtime", bare["images_per_s"] / documented, 2.5)
        notebook = _best(rows, "keras", in_flight=1)
        if notebook:
            yield Goal("times the notebook way", bare["images_per_s"] / notebook, 10.0)
    if bare and sdk:
        yield Goal("what the SDK costs", 1 - sdk["images_per_s"] / bare["images_per_s"], 0.05, at_most=True)
    for count in sorted({row["in_flight"] for row in rows if row["name"] == _BARE}):
        own, peers = _row(rows, _BARE, count), _best(rows, OURS, in_flight=count)
        if own and peers:
            yield Goal(f"times the best with the same engine, {count} in flight", own["images_per_s"] / peers, 1.0)
    for saving in report["savings"]:
        apart = abs(saving["saved"] - saving["saved_in_theory"])
        yield Goal(f"saving by the gate from theory, prevalence {saving['prevalence']:.0%}", apart, 0.03, at_most=True)
    for start in report["starts"]:
        if start["name"] == _BARE:
            yield Goal("seconds until ready", start["ready_s"], 5.0, at_most=True)
            first, *_, tenth = start["first_ms"]
            yield Goal("first request against the tenth", first / tenth, 2.0, at_most=True)


def _row(rows: Sequence[dict[str, Any]], name: str, in_flight: int = IN_FLIGHT) -> dict[str, Any] | None:
    wanted = {"name": name, "in_flight": in_flight, "prevalence": PREVALENCE}
    return next((row for row in rows if wanted.items() <= row.items()), None)


def _best(rows: Sequence[dict[str, Any]], engine: str, in_flight: int = IN_FLIGHT) -> float:
    """The fastest peer on an engine, slices/s; 0 where there is none."""
    wanted = {"kind": "peer", "engine": engine, "in_flight": in_flight, "prevalence": PREVALENCE}
    return max((row["images_per_s"] for row in rows if wanted.items() <= row.items()), default=0.0)


def _peaks(rows: Sequence[dict[str, Any]]) -> list[float]:
    # With the gate held open it is the same server, only busier.
    return [row["peak_mb"] for row in rows if row["kind"] in ("gliogate", "always")]
