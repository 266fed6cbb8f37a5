"""What is left of a benchmark: tables on the terminal, `bench.json`, and a page with the plots."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.goals import IN_FLIGHT, PREVALENCE, Goal, goals
from benchmarks.page import page
from benchmarks.systems import IN_PROCESS
from reports.environment import environment
from reports.frame import write_page

WIDTH = 160
"""Columns that no table needs more of; what is piped is not cut to 80."""


def terminal() -> Console:
    """What is printed on."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def machine() -> dict[str, Any]:
    """What the figures are of."""
    packages = ("gliogate", "numpy", "nvidia-pytriton", "onnxruntime", "openvino", "tritonclient")
    return environment(packages) | {"load_before": os.getloadavg()[0]}


def write(report: dict[str, Any], folder: Path) -> None:
    """Writes `bench.json`, whole or not at all: it is written again after every round."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "bench.json.part"
    unfinished.write_text(json.dumps(report, indent=2) + "\n")
    unfinished.replace(folder / "bench.json")


def draw(report: dict[str, Any], folder: Path) -> None:
    """Writes `bench.html`."""
    write_page(folder / "bench.html", lambda: page(report))


def show(report: dict[str, Any], console: Console) -> None:
    """Prints the tables."""
    rows = [row for row in report["rows"] if "error" not in row]
    for prevalence in sorted({row["prevalence"] for row in rows}, key=lambda share: (share != PREVALENCE, share)):
        console.print(_table([row for row in rows if row["prevalence"] == prevalence], prevalence))
    for row in report["rows"]:
        if "error" in row:
            # Not as markup: what fails may say [anything].
            console.print(Text.assemble((f"{row['name']}, {row['engine']}", "bold"), f": {row['error']}"))
    console.print(_savings(report["savings"]), _starts(report["starts"]), goals_table(goals(report)))
    if not report["is_complete"]:
        console.print("interrupted: not all was measured")


def _table(rows: Sequence[dict[str, Any]], prevalence: float) -> Table:
    slices, opened = next(((row["slices"], row["opened"]) for row in rows if row["kind"] == "limit"), (0, 0))
    table = Table(
        *("system", "engine", "in flight", "slices/s", "lowest to highest", "p50 ms", "p99 ms", "of the limit", "MB"),
        title=f"prevalence {prevalence:.0%}: {slices} slices, the gate opens for {opened}",
    )
    for row in rows:
        low, high = row["images_per_s_range"]
        table.add_row(
            row["name"],
            row["engine"],
            f"batch {row['in_flight']}" if row["name"].startswith(IN_PROCESS) else str(row["in_flight"]),
            f"{row['images_per_s']:.1f}",
            f"{low:.1f} to {high:.1f}",
            f"{row['p50_ms']:.0f}",
            f"{row['p99_ms']:.0f}",
            "" if row["ratio_to_limit"] is None else f"{row['ratio_to_limit']:.2f}",
            f"{row['peak_mb']:.0f}",
        )
    return table


def _savings(savings: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        *("prevalence", "gate opens for", "detector ms", "segmenter ms", "saved", "in theory"),
        title=f"what gating saves of running both always, {IN_FLIGHT} in flight",
    )
    for saving in savings:
        table.add_row(
            f"{saving['prevalence']:.0%}",
            f"{saving['opened_share']:.0%}",
            f"{saving['detector_ms']:.1f}",
            f"{saving['segmenter_ms']:.1f}",
            f"{saving['saved']:.1%}",
            f"{saving['saved_in_theory']:.1%}",
        )
    return table


def _starts(starts: Sequence[dict[str, Any]]) -> Table:
    table = Table("system", "engine", "ready after s", "first request ms", "second ms", "tenth ms", title="start")
    for start in starts:
        first, second, *_, tenth = start["first_ms"]
        table.add_row(
            *(start["name"], start["engine"], f"{start['ready_s']:.1f}"),
            *(f"{milliseconds:.0f}" for milliseconds in (first, second, tenth)),
        )
    return table


def goals_table(goals: Sequence[Goal]) -> Table:
    """Each beside its figure."""
    table = Table("goal", "figure", "bar", "met")
    for goal in goals:
        bar = f"{'at most' if goal.at_most else 'at least'} {goal.bar:g}"
        table.add_row(goal.text, f"{goal.figure:.3g}", bar, "yes" if goal.is_met else "no")
    return table
