"""The report of a run: JSON for programs, CSV for tables, and a page that needs neither network nor scripts."""

import csv
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gliogate.files import replacing
from loadtests.errors import ReportError

if TYPE_CHECKING:
    from loadtests.result import StageResult
    from loadtests.run import Run

__all__ = ["check_folder", "write_report"]

TOLD: Final = ("name", "is_valid", "prevalence", "users", "call")


def check_folder(folder: Path) -> None:
    """Makes the folder, before hours of load end in a report that cannot be written.

    Raises:
        ReportError: it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused(folder, error) from error


def write_report(folder: Path, run: "Run") -> Path:
    """Writes `report.json`, `report.csv` and `report.html`.

    Returns:
        The page.

    Raises:
        ReportError: the folder cannot be written to.
    """
    # What draws pages takes seconds to import, which no load should have to wait for.
    from loadtests.report.page import render_page

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "report.json") as partial:
            partial.write_text(json.dumps(run.to_json(), allow_nan=False) + "\n", encoding="utf-8")
        with replacing(folder / "report.csv") as partial:
            _write_csv(partial, run)
        page = folder / "report.html"
        with replacing(page) as partial:
            partial.write_text(render_page(run), encoding="utf-8")
    except OSError as error:
        raise _refused(folder, error) from error
    return page


def _refused(folder: Path, error: OSError) -> ReportError:
    return ReportError(f"{folder}: the report cannot be written here: {error.strerror or error}")


def _write_csv(path: Path, run: "Run") -> None:
    rows = [row for result in run.results for row in _rows(result)]
    with path.open("w", encoding="utf-8", newline="") as file:
        names = list(TOLD) + [name for name in (rows[0] if rows else {}) if name not in TOLD]
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _rows(result: "StageResult") -> list[dict[str, Any]]:
    """A stage as lines of a table: all its calls together, then each kind, where there are several."""
    from loadtests.result import latencies

    stage = result.stage
    told = {
        "name": stage.name,
        "is_valid": not result.faults,
        "prevalence": stage.prevalence,
        "users": stage.users or None,
    }
    rows = [told | {"call": "all"} | result.figures]
    for name, counts in result.record.calls.items() if len(result.record.calls) > 1 else ():
        figures: dict[str, Any] = {
            "answered": counts.corrected.count,
            "failed": counts.failed,
            "slices": counts.slices,
            "opened": counts.opened,
            **latencies(counts.corrected),
            **{f"service_{key}": value for key, value in latencies(counts.service).items()},
        }
        rows.append(told | {"call": name} | figures)
    return rows
