"""The page of a run."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from loadtests.limit import BEYOND, RULE
from loadtests.report import charts
from loadtests.result import latencies
from loadtests.stage import told_share
from reports.frame import render

if TYPE_CHECKING:
    from loadtests.run import Run


def render_page(run: "Run") -> str:
    """The page as HTML."""
    mixed = [result for result in run.results if len(result.record.calls) > 1]
    return render(
        Path(__file__).with_name("page.html"),
        run=run,
        results=run.results,
        rule=RULE if run.is_search else None,
        command=shlex.join(run.environment["command"]),
        beyond=BEYOND,
        told_share=told_share,
        loads=charts.load_plots(run.results),
        times=charts.time_plot(run.results),
        batches=charts.batch_plots(run.results),
        parts=[charts.breakdown_parts(result) for result in run.results],
        kinds=[
            (result.stage.name, name, counts, latencies(counts.corrected))
            for result in mixed
            for name, counts in result.record.calls.items()
        ],
        errors=[
            (result.stage.name, name, count) for result in run.results for name, count in _errors(result.to_json())
        ],
        gaps=sorted({gap for result in run.results for gap in result.server.get("gaps", ())})
        + [f"{result.stage.name}: {result.doubt}" for result in run.results if result.doubt],
        workers=sorted({worker for result in run.results for worker in result.workers}),
        servers=sorted({server for result in run.results for server in result.server.get("servers", ())}),
    )


def _errors(told: dict[str, dict[str, int]]) -> list[tuple[str, int]]:
    return sorted((name, count) for name, count in told["errors"].items() if count)
