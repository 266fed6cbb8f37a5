"""An evaluation's figures on the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from reports.frame import number, span

SHOWN = {
    "detector": ("auc", "sensitivity", "specificity", "calibration_error"),
    "through_gate": ("volume_dice_mean", "volume_dice_median", "tumor_slice_dice_mean", "volume_hd95_median_px"),
    "without_gate": ("volume_dice_mean", "volume_dice_median"),
}


def show(summary: dict[str, Any]) -> None:
    """Prints the figures that matter most, with their intervals."""
    table = Table("figure", "value", "95% interval over patients")
    for section, figures in SHOWN.items():
        table.add_section()
        for name in figures:
            interval = summary[section].get(f"{name}_interval")
            told = f"{section.replace('_', ' ')}: {name.replace('_', ' ')}"
            table.add_row(told, number(summary[section][name]), span(interval) if interval else "")
    Console().print(table)
