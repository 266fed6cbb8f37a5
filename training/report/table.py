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


IN_HEADS = {
    "detector": ("auc", "sensitivity", "specificity"),
    "through_gate": ("volume_dice_mean", "volume_dice_median"),
    "reliability": (
        "spearman_of_certainty_and_dice",
        "said_over_true_volume_median",
        "share_of_true_volumes_in_their_interval",
        "pixel_calibration_error_between_0.02_and_0.98",
    ),
}


def show(summary: dict[str, Any]) -> None:
    """Prints the figures that matter most, with their intervals."""
    table = Table("figure", "value", "95% interval over patients")
    of_slices = [(section, summary[section], figures) for section, figures in SHOWN.items()]
    heads = summary.get("in_heads", {})
    of_heads = [(f"in heads, {section}", heads[section], figures) for section, figures in IN_HEADS.items() if heads]
    for section, found, figures in of_slices + of_heads:
        table.add_section()
        for name in figures:
            interval = found.get(f"{name}_interval")
            told = f"{section.replace('_', ' ')}: {name.replace('_', ' ')}"
            table.add_row(told, number(found[name]), span(interval) if interval else "")
    Console().print(table)
