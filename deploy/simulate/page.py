"""What is told of simulated days: a table, and a page with plots."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from deploy.simulate.day import PERCENTS, Day
from deploy.simulate.pods import Service
from reports.frame import render
from reports.plots import Axis, Plot

COLUMNS = (
    "in flight",
    "fewest pods",
    "mean",
    "most",
    *(f"p{percent:g} ms" for percent in PERCENTS),
    "refused",
    "pod-hours",
    "GPU-hours",
)
_SIZE = (680, 320)


def rows(days: Sequence[Day]) -> list[tuple[str, ...]]:
    """The table, a line for each plan."""
    return [
        (
            f"{day.plan.in_flight:g}",
            f"{day.pods.min():.0f}",
            f"{day.pods.mean():.1f}",
            f"{day.most_pods}",
            *(f"{1000 * each:.0f}" for each in day.latency_s),
            f"{day.refused:.2%}",
            f"{day.pod_hours:.1f}",
            f"{day.gpu_hours:.1f}",
        )
        for day in days
    ]


def page(service: Service, days: Sequence[Day]) -> str:
    """One HTML file that needs nothing else."""
    return render(
        Path(__file__).with_name("page.html"),
        title="gliogate: a day, simulated",
        service=service,
        peak=max(float(day.rates.max()) for day in days),
        columns=COLUMNS,
        rows=rows(days),
        days=[(day, _pods(service, day), _latency(day)) for day in days],
    )


def _pods(service: Service, day: Day) -> Markup:
    hours, needed = day.times_s / 3600, day.rates / service.throughput
    plot = Plot(
        Axis.over("hours", hours),
        Axis.over("pods", [0.0, *day.pods, *needed]),
        label="pods over the day, and those that a load without randomness would fill",
        size=_SIZE,
    )
    plot.line(list(hours), list(needed), ink="second")
    plot.line(list(hours), list(day.pods))
    return plot.svg()


def _latency(day: Day) -> Markup:
    known = ~np.isnan(day.p99_s)
    hours, slow = day.times_s[known] / 3600, 1000 * day.p99_s[known]
    plot = Plot(
        Axis.over("hours", day.times_s / 3600),
        Axis.over("p99, ms", [0.0, *slow]),
        label="99th percentile of latency over the day",
        size=_SIZE,
    )
    plot.line(list(hours), list(slow))
    return plot.svg()
