"""The plots of the page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from loadtests.record import Window
from loadtests.result import StageResult
from training.report.plots import Axis, Plot

WIDE = (960, 300)
POINTS = 120
"""Points of a line over time, at most."""


@dataclass(frozen=True)
class RatePlot:
    """Latency against rate, p50 and p99.

    Attributes:
        prevalence: the share of the phantoms that shows tumor.
        is_open: whether the rates are those offered, in an open loop, or those answered, in a closed one.
        svg: the plot.
    """

    prevalence: float
    is_open: bool
    svg: Markup


def rate_plots(results: Sequence[StageResult]) -> list[RatePlot]:
    """One plot for each prevalence and kind of loop of which there are two loads or more."""
    plots = []
    for prevalence, is_open in sorted({(result.stage.prevalence, result.stage.is_open) for result in results}):
        points = sorted(
            (result.stage.users, rate, p50, p99, result.stage.name)
            for result in results
            if (result.stage.prevalence, result.stage.is_open) == (prevalence, is_open)
            and (rate := result.figures["offered_rate" if is_open else "rate"]) is not None
            and (p50 := result.figures["p50_ms"]) is not None
            and (p99 := result.figures["p99_ms"]) is not None
        )
        if len(points) < 2:
            continue
        _, rates, middle, slow, names = zip(*points, strict=True)
        plot = Plot(
            Axis.over("requests a second", [0, *rates]),
            Axis.over("latency, ms", [0, *slow]),
            label="latency against rate, p50 and p99",
            size=(480, 300),
        )
        plot.line(rates, slow, ink="second")
        plot.line(rates, middle)
        for rate, p50, p99, name in zip(rates, middle, slow, names, strict=True):
            plot.dot(rate, p99, ink="second", note=f"{name}: p99 {p99:.1f} ms")
            plot.dot(rate, p50, note=f"{name}: p50 {p50:.1f} ms")
        plots.append(RatePlot(prevalence, is_open, plot.svg()))
    return plots


def time_plot(results: Sequence[StageResult]) -> Markup | None:
    """Percentiles over time, p50 and p99, stage after stage; None where nothing was answered."""
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
            p50, p99 = block.corrected.percentile(50), block.corrected.percentile(99)
            if p50 is not None and p99 is not None:
                times.append(begin + first + width / 2)
                middle.append(1000 * p50)
                slow.append(1000 * p99)
        pieces.append((times, middle, slow))
        begin += span
        borders.append(begin)
    highest = max((value for piece in pieces for value in piece[2]), default=None)
    if highest is None:
        return None
    plot = Plot(
        Axis.over("seconds, by when a request was due", [0, begin]),
        Axis.over("latency, ms", [0, highest]),
        label="p50 and p99 over time",
        size=WIDE,
    )
    for border in borders[:-1]:
        plot.guide((border, 0), (border, highest))
    for times, middle, slow in pieces:
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
        ms: how long.
        share: of the whole.
    """

    name: str
    ms: float
    share: float


def breakdown_parts(result: StageResult) -> list[Part]:
    """Where the mean request's time went; empty where the server did not say."""
    parts = result.breakdown or {}
    total = sum(parts.values())
    return [Part(name, value, value / total if total else 0.0) for name, value in parts.items()]
