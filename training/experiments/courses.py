"""Recipes trained, calibrated and judged on the same patients, and the tables that are made of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gliogate.files import replacing
from reports.frame import number, span
from training.calibrate import Calibration, pooled
from training.data import Dataset, Split
from training.evaluate import evaluate, held_out
from training.recipe import Recipe
from training.run import Run
from training.train import train

Summary = dict[str, Any]
"""The content of a run's `summary.json`."""

Column = Callable[[Any], str]
"""What a table shows of a row: of a `Summary`, mostly."""

COLUMNS: dict[str, Column] = {
    "AUC": lambda s: _with_interval(s["detector"], "auc"),
    "Dice, mean": lambda s: _with_interval(s["without_gate"], "volume_dice_mean"),
    "median": lambda s: number(s["without_gate"]["volume_dice_median"]),
    "of tumor slices": lambda s: _with_interval(s["without_gate"], "tumor_slice_dice_mean"),
    "minutes": lambda s: number(s["seconds"] / 60, 1),
}
"""What most tables show; Dice is without a gate, of volumes and of slices that show tumor."""


def judged(folder: Path, recipe: Recipe, split: Split, dataset: Dataset, *, seed: int = 0) -> Summary:
    """Trains what was not trained yet, and says how good it is on the split's validation patients.

    Args:
        folder: of the run; one that was interrupted is carried on.
        recipe: how.
        split: who is learned from.
        dataset: slices of everybody.
        seed: of the training.
    """
    run = Run.create(folder, recipe, split)
    train(run, dataset, seed=seed)
    parts = held_out([run], dataset)
    Calibration.measure(*pooled(parts), sensitivity=recipe.sensitivity).write(folder)
    return evaluate(folder, dataset, folder, parts=parts)


def write_table(path: Path, rows: Mapping[str, Any], columns: Mapping[str, Column] = COLUMNS) -> None:
    """Writes a table in Markdown, one row for each name, and prints it."""
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(cell(summary) for cell in columns.values())] for name, summary in rows.items()]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    print(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(table, encoding="utf-8")


def _with_interval(figures: Summary, key: str) -> str:
    return f"{number(figures[key])} ({span(figures[f'{key}_interval'])})"
