"""The plots of the page."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gliogate.contract import ENSEMBLE
from loadtests.arrivals import Flat
from loadtests.record import Window
from loadtests.result import StageResult
from loadtests.stage import told_share
from reports.plots import Axis, Ink, Plot

WIDE, SMALL = (960, 300), (480, 300)
POINTS = 120
"""Points of a line over time, at most."""


@dataclass(frozen=True)
class LoadPlot:
    """A figure against the load that it was measured under, of stages that asked the same.

    Attributes:
        figure: what is shown.
        told: of which stages, and what the load is.
        svg: the plot.
    """

    figure: str
    told: str
    svg: Markup


def load_plots(results: Sequence[StageResult]) -> list[LoadPlot]:
    """Latency, batches and throughput against the load, of stages that differ in nothing else, two or more.

    Those that are invalid are left out: what they show is the generator.
    """
    groups: dict[object, list[StageResult]] = {}
    for result in results:
        stage = result.stage
        has_one_load = stage.arrivals is None or isinstance(stage.arrivals.profile, Flat)
        if has_one_load and not result.faults and result.figures["p99_ms"] is not None:
            groups.setdefault((stage.prevalence, stage.mix, stage.is_open), []).append(result)
    plots: list[LoadPlot] = []
    for group in groups.values():
        stage = group[0].stage
        told = f"{told_share(stage.prevalence)}, {' and '.join(call.name for call in stage.mix.calls)}, "
        if stage.is_open:
            plots += _open_plots(group, f"{told}open loop: the rates are those offered")
        else:
            plots += _closed_plots(group, f"{told}closed loop")
    return plots


def _open_plots(group: list[StageResult], told: str) -> list[LoadPlot]:
    plots, loads = [], _by_load(group, lambda result: result.figures["offered_rate"])
    if len(loads) > 1:
        plots.append(LoadPlot("Latency against rate", told, _latency_plot(loads, "requests a second")))
    batches = [
        (load, result, mean)
        for load, result in loads
        if (mean := result.server.get("models", {}).get(ENSEMBLE.name, {}).get("mean_batch")) is not None
    ]
    if len(batches) > 1:
        plots.append(LoadPlot("Mean batch against rate", told, _single_plot(batches, "requests a second", "slices")))
    return plots


def _closed_plots(group: list[StageResult], told: str) -> list[LoadPlot]:
    loads = _by_load(group, lambda result: float(result.stage.users))
    if len(loads) < 2:
        return []
    slices = [(load, result, result.figures["throughput"] or 0.0) for load, result in loads]
    return [
        LoadPlot("Throughput against users", told, _single_plot(slices, "users", "slices a second")),
        LoadPlot("Latency against users", told, _latency_plot(loads, "users")),
    ]


def _by_load(
    group: Sequence[StageResult], load: Callable[[StageResult], float | None]
) -> list[tuple[float, StageResult]]:
    """The stages with their loads, the lowest first; of equal ones the last that was measured."""
    found = {value: result for result in group if (value := load(result))}
    return [(value, found[value]) for value in sorted(found)]


def _latency_plot(loads: list[tuple[float, StageResult]], name: str) -> Markup:
    values = [(load, result.stage.name, result.figures) for load, result in loads]
    axis, unit = _latency_axis([figures["p99_ms"] or 0.0 for *_, figures in values])
    plot = Plot(
        Axis.over(name, [0, *(load for load, *_ in values)]), axis, label=f"p50 and p99 against {name}", size=SMALL
    )
    inks: dict[str, Ink] = {"p99": "second", "p50": "first"}
    for figure, ink in inks.items():
        points = [(load, stage, figures[f"{figure}_ms"] or 0.0) for load, stage, figures in values]
        plot.line([load for load, *_ in points], [value / unit for *_, value in points], ink=ink)
        for load, stage, value in points:
            plot.dot(load, value / unit, ink=ink, note=f"{stage}: {figure} {value:.1f} ms")
    return plot.svg()


def _single_plot(points: list[tuple[float, StageResult, float]], load: str, name: str) -> Markup:
    values = [value for *_, value in points]
    plot = Plot(
        Axis.over(load, [0, *(point[0] for point in points)]),
        Axis.over(name, [0, *values]),
        label=f"{name} against {load}",
        size=SMALL,
    )
    plot.line([point[0] for point in points], values)
    for at, result, value in points:
        plot.dot(at, value, note=f"{result.stage.name}: {value:.1f} {name}")
    return plot.svg()


def _latency_axis(values_ms: Sequence[float]) -> tuple[Axis, float]:
    """An axis in milliseconds, or in seconds where numbers would be long; and its unit in milliseconds."""
    unit = 1000.0 if max(values_ms) >= 1000 else 1.0
    name = "latency, s" if unit > 1 else "latency, ms"
    return Axis.over(name, [0, *(value / unit for value in values_ms)]), unit


def time_plot(results: Sequence[StageResult]) -> Markup | None:
    """Percentiles over time, p50 and p99, stage after stage; None where nothing was answered.

    Where so many requests failed that a percentile has no end, it is at the upper edge.
    """
    spans = [max(1, int(result.elapsed_s + 0.999)) for result in results]
    width = max(1, -(-sum(spans) // POINTS))
    pieces, borders, begin = [], [], 0
    for result, span in zip(results, spans, strict=True):
        times, middle, slow = [], [], []
        for first in range(0, span, width):
            block = Window()
            for second in range(first, min(span, first + width)):
                if window := result.record.windows.get(second):
                    block.merge(window)
            p50, p99 = (block.corrected.percentile(percent, block.failed) for percent in (50, 99))
            if p50 is not None and p99 is not None:
                times.append(begin + first + width / 2)
                middle.append(1000 * p50)
                slow.append(1000 * p99)
        pieces.append((times, middle, slow))
        begin += span
        borders.append(begin)
    seen = [value for piece in pieces for line in piece[1:] for value in line if math.isfinite(value)]
    if not seen:
        return None
    axis, unit = _latency_axis(seen)
    plot = Plot(
        Axis.over("seconds, by when a request was due", [0, begin]), axis, label="p50 and p99 over time", size=WIDE
    )
    for border in borders[:-1]:
        plot.guide((border, 0), (border, axis.high))
    for times, *lines in pieces:
        middle, slow = ([value / unit for value in line] for line in lines)
        plot.line(times, slow, ink="second")
        plot.line(times, middle)
        if len(times) == 1:
            plot.dot(times[0], slow[0], ink="second")
            plot.dot(times[0], middle[0])
    return plot.svg()


def batch_plots(results: Sequence[StageResult]) -> dict[str, Markup]:
    """How many slices the executions of each model held, all stages together."""
    sizes: dict[str, Counter[int]] = {}
    for result in results:
        for model, seen in result.server.get("models", {}).items():
            sizes.setdefault(model, Counter()).update({int(size): count for size, count in seen["batches"].items()})
    plots = {}
    for model, counts in sizes.items():
        if total := sum(counts.values()):
            largest = max(counts)
            plot = Plot(
                Axis(f"slices in a batch of {model}", 0.5, largest + 0.5, _ticks(largest)),
                Axis.over("share of batches", [0, max(counts.values()) / total]),
                label=f"batch sizes of {model}",
                size=(330, 220),
            )
            for size, count in sorted(counts.items()):
                plot.bar(size - 0.5, size + 0.5, count / total, note=f"{count} batches of {size}")
            plots[model] = plot.svg()
    return plots


def _ticks(largest: int) -> tuple[float, ...]:
    step = next(step for step in (1, 2, 4, 8) if largest / step <= 8 or step == 8)
    return tuple(float(tick) for tick in sorted({1, *range(step, largest + 1, step)}))


@dataclass(frozen=True)
class Part:
    """A part of the mean request's time.

    Attributes:
        name: where it was spent.
        ms: how long; None where it is not known.
        share: of the whole.
    """

    name: str
    ms: float | None
    share: float


def breakdown_parts(result: StageResult) -> list[Part]:
    """Where the mean request's time went; empty where the server did not say."""
    parts = result.breakdown or {}
    total = sum(value or 0.0 for value in parts.values()) or 1.0
    return [Part(name, value, (value or 0.0) / total) for name, value in parts.items()]
