"""Several runs in one table, and what the difference between them is worth."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gliogate.runs import FILE_WIDTH
from reports.frame import NONE, number, render, span
from training.errors import RunError
from training.files import replacing
from training.metrics import patient_interval

Row = dict[str, Any]


class Column(NamedTuple):
    """One column: its heading, and what a row has in it."""

    heading: str
    cell: Callable[[Row], str]


COLUMNS = (
    Column("run", lambda row: row["run"]),
    Column("recipe", lambda row: row["recipe"]),
    Column("patients", lambda row: number(row["patients"]) + ("" if row["same_patients"] else " *")),
    Column("AUC", lambda row: _with_interval(row, "auc")),
    Column("sensitivity", lambda row: number(row["sensitivity"])),
    Column("specificity", lambda row: number(row["specificity"])),
    Column("ECE", lambda row: number(row["calibration_error"])),
    Column("Dice, mean", lambda row: _with_interval(row, "volume_dice_mean")),
    Column("Dice, median", lambda row: number(row["volume_dice_median"])),
    Column("ungated, mean", lambda row: _with_interval(row, "ungated_volume_dice_mean")),
    Column("ungated, median", lambda row: number(row["ungated_volume_dice_median"])),
    Column("Dice to the first", lambda row: _difference(row)),
    Column("parameters", lambda row: _millions(row["parameters"])),
    Column("training", lambda row: _duration(row["seconds"])),
)

LEGEND = (
    "Dice: of each patient's volume, through the gate, a missed slice as an empty mask; ungated: as if the gate always "
    "opened. In brackets 95% bootstrap intervals over patients. Dice to the first: mean difference of Dice, patient by "
    "patient, with its interval; one that holds 0 may be chance."
)
STARRED = "* Other patients than the first run: the columns do not compare, the difference is of the patients in both."


def compare(runs: Sequence[Path], output: Path | None = None) -> list[Row]:
    """Prints several runs as one table.

    Args:
        runs: folders of runs, of cross-validations or of what `evaluate` wrote about a model repository; the first is
            the one that the others are held against.
        output: where to write the table, too: `.html`, `.json` or `.md`; None not to.

    Returns:
        For each run its figures, `same_patients` as the first, and over the `shared_patients` with a Dice in both the
        mean `dice_difference` to the first with its interval, None where there are fewer than two.

    Raises:
        RunError: a run was not evaluated, or a file of it cannot be used.
        TrainingError: the output cannot be written.
    """
    if output and output.suffix not in WRITERS:
        raise RunError(
            f"{output}: cannot write {output.suffix or 'a file without suffix'}; {', '.join(WRITERS)} can be"
        )
    summaries = [_read(run / "summary.json") for run in runs]
    rows = [_row(run, summary, summaries[0]) for run, summary in zip(runs, summaries, strict=True)]
    _print(rows)
    if output:
        with replacing(output) as partial:
            partial.write_text(WRITERS[output.suffix](rows), encoding="utf-8")
    return rows


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{path.parent}: no {path.name}; `python -m training evaluate {path.parent}` writes it"
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise RunError(f"{path}: holds a {type(content).__name__}, expected an object")
    return content


def _row(run: Path, summary: dict[str, Any], first: dict[str, Any]) -> Row:
    try:
        detector, gated, ungated = (summary[section] for section in ("detector", "through_gate", "without_gate"))
        row = {
            "run": str(run),
            "recipe": summary["recipe"] if "recipe" in summary else _recipe_of(run)["name"],
            "patients": len(summary["patients"]),
            "same_patients": set(summary["patients"]) == set(first["patients"]),
            "parameters": summary.get("parameters"),
            "seconds": summary.get("seconds"),
        }
        row |= {
            key: detector[key] for key in ("auc", "auc_interval", "sensitivity", "specificity", "calibration_error")
        }
        for prefix, section in (("", gated), ("ungated_", ungated)):
            for key in ("volume_dice_mean", "volume_dice_mean_interval", "volume_dice_median"):
                row[prefix + key] = section[key]
        return row | _held_against(first, summary)
    except (KeyError, TypeError) as error:
        raise RunError(f"{run}: summary.json or recipe.json is not as this version writes it: {error}") from None


def _recipe_of(run: Path) -> dict[str, Any]:
    """For a summary that names no recipe, as they did not always: the run's, or that of a cross-validation's folds."""
    for folder in (run, run / "fold-1"):
        if (folder / "recipe.json").exists():
            return _read(folder / "recipe.json")
    raise RunError(f"{run / 'summary.json'}: names no recipe; `python -m training evaluate` writes it anew")


def _held_against(first: dict[str, Any], summary: dict[str, Any]) -> Row:
    """The paired difference of Dice through the gate; none of the first run to itself."""
    before, after = _dice(first), _dice(summary)
    shared = sorted(set(before) & set(after))
    row: Row = {"shared_patients": len(shared), "dice_difference": None, "dice_difference_interval": (None, None)}
    if len(shared) < 2 or summary is first:
        return row
    differences = np.array([after[patient] - before[patient] for patient in shared])
    each = [np.array([index]) for index in range(len(shared))]
    interval = patient_interval(lambda rows: float(differences[rows].mean()), each)
    return row | {"dice_difference": float(differences.mean()), "dice_difference_interval": interval}


def _dice(summary: dict[str, Any]) -> dict[str, float]:
    dice = {case["patient"]: case["through_gate"]["dice"] for case in summary["cases"]}
    return {patient: value for patient, value in dice.items() if value is not None}


def _with_interval(row: Row, key: str) -> str:
    return f"{number(row[key])} ({span(row[f'{key}_interval'])})"


def _difference(row: Row) -> str:
    if row["dice_difference"] is None:
        return NONE
    low, high = row["dice_difference_interval"]
    return f"{row['dice_difference']:+.3f} ({low:+.3f} to {high:+.3f}, n={row['shared_patients']})"


def _millions(parameters: int | None) -> str:
    return NONE if parameters is None else f"{parameters / 1e6:.2f} M"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def _notes(rows: Sequence[Row]) -> list[str]:
    return [LEGEND] if all(row["same_patients"] for row in rows) else [LEGEND, STARRED]


def _print(rows: Sequence[Row]) -> None:
    """A line for each figure, so that a few runs fit side by side."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    name, *figures = COLUMNS
    table.add_column(name.heading)
    for row in rows:
        table.add_column(escape(name.cell(row)), justify="right", overflow="fold")
    for figure in figures:
        table.add_row(figure.heading, *(escape(figure.cell(row)) for row in rows))
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    console.print(table)
    for note in _notes(rows):
        console.print(note, highlight=False)


def _json(rows: Sequence[Row]) -> str:
    return json.dumps(rows, indent=2, allow_nan=False) + "\n"


def _markdown(rows: Sequence[Row]) -> str:
    escapes = str.maketrans({"|": r"\|", "*": r"\*", "_": r"\_"})
    lines = [[column.heading for column in COLUMNS], ["---"] * len(COLUMNS)]
    lines += [[column.cell(row).translate(escapes) for column in COLUMNS] for row in rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([table, *(note.translate(escapes) for note in _notes(rows))]) + "\n"


def _html(rows: Sequence[Row]) -> str:
    return render(Path(__file__).with_name("report") / "compare.html", columns=COLUMNS, rows=rows, notes=_notes(rows))


WRITERS: dict[str, Callable[[Sequence[Row]], str]] = {".html": _html, ".json": _json, ".md": _markdown}
