"""The page with the plots."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from benchmarks.goals import IN_FLIGHT, PREVALENCE, goals
from benchmarks.systems import IN_PROCESS
from reports.frame import render
from reports.plots import Axis, Ink, Plot

_SIZE = (680, 380)


def page(report: dict[str, Any]) -> str:
    """One HTML file that needs nothing else."""
    rows = [row for row in report["rows"] if "error" not in row]
    main = [row for row in rows if row["prevalence"] == PREVALENCE]
    plots = {
        f"Latency and throughput, {PREVALENCE:.0%} with tumor": _latencies([row for row in main if _is_asked(row)]),
        f"Throughput and prevalence, {IN_FLIGHT} in flight": _prevalences(rows),
    }
    return render(
        Path(__file__).parent / "page.html",
        title="gliogate: serving, measured",
        report=report,
        plots=plots,
        rows=rows,
        failed=[row for row in report["rows"] if "error" in row],
        goals=goals(report),
    )


def _latencies(rows: Sequence[dict[str, Any]]) -> Markup:
    plot = Plot(
        Axis.over("slices/s", [0.0, *(row["images_per_s"] for row in rows)]),
        Axis.over("p50, ms", [0.0, *(row["p50_ms"] for row in rows)]),
        label="median latency against throughput, for every system and number in flight",
        size=_SIZE,
    )
    for (name, engine), points in _grouped(rows):
        ink = _ink(points[0])
        plot.line([row["images_per_s"] for row in points], [row["p50_ms"] for row in points], ink=ink)
        for row in points:
            note = f"{name}, {engine}, {row['in_flight']} in flight: {row['images_per_s']:.1f} slices/s"
            plot.dot(row["images_per_s"], row["p50_ms"], ink=ink, note=note)
    return plot.svg()


def _prevalences(rows: Sequence[dict[str, Any]]) -> Markup:
    rows = [row for row in rows if row["in_flight"] == IN_FLIGHT]
    plot = Plot(
        Axis.share("share of slices with tumor"),
        Axis.over("slices/s", [0.0, *(row["images_per_s"] for row in rows)]),
        label=f"throughput against prevalence, {IN_FLIGHT} in flight",
        size=_SIZE,
    )
    for (name, engine), points in _grouped(rows):
        ink = _ink(points[0])
        points = sorted(points, key=lambda row: row["prevalence"])
        plot.line([row["prevalence"] for row in points], [row["images_per_s"] for row in points], ink=ink)
        for row in points:
            note = f"{name}, {engine}: {row['images_per_s']:.1f} slices/s"
            plot.dot(row["prevalence"], row["images_per_s"], ink=ink, note=note)
    return plot.svg()


def _grouped(rows: Sequence[dict[str, Any]]) -> Iterable[tuple[tuple[str, str], list[dict[str, Any]]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["name"], row["engine"]].append(row)
    return groups.items()


def _ink(row: dict[str, Any]) -> Ink:
    return "first" if row["kind"] == "gliogate" else "second"


def _is_asked(row: dict[str, Any]) -> bool:
    """Whether it has requests in flight, rather than batches."""
    return not row["name"].startswith(IN_PROCESS)
