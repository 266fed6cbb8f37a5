"""The report of a run: JSON for programs, CSV for tables, and a page that needs neither network nor scripts."""

import csv
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gliogate.files import replacing
from loadtests.errors import ReportError
from loadtests.report.page import render_page
from loadtests.result import latencies
from reports.frame import write_page

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


def write_report(folder: Path, run: "Run") -> Path | None:
    """Writes `report.json`, then `report.csv`, then `report.html`.

    Returns:
        The page; None where it could not be drawn, which is logged.

    Raises:
        ReportError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "report.json") as partial:
            partial.write_text(json.dumps(run.to_json(), allow_nan=False) + "\n", encoding="utf-8")
        with replacing(folder / "report.csv") as partial:
            _write_csv(partial, run)
        return write_page(folder / "report.html", lambda: render_page(run))
    except OSError as error:
        raise _refused(folder, error) from error


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
            "suspicious": counts.suspicious,
            **latencies(counts.corrected),
            **{f"service_{key}": value for key, value in latencies(counts.service).items()},
        }
        rows.append(told | {"call": name} | figures)
    return rows
