"""The commands of a course of training, so small that what takes its time is the software, not the learning."""

import csv
from pathlib import Path

import pytest

from training.__main__ import main
from training.recipes import find


def train(run: Path, data: Path, *arguments: str) -> int:
    """`python -m training train`."""
    return main(["train", str(run), "--data", str(data), *arguments])


def export(run: Path, data: Path, repository: Path, *arguments: str) -> int:
    """`python -m training export`."""
    return main(["export", str(run), "--data", str(data), "--model-repository", str(repository), *arguments])


def epochs_logged(run: Path, stage: str) -> list[int]:
    """Numbers of the epochs in a stage's log, from 1."""
    with (run / f"{stage}.csv").open() as file:
        return [int(row["epoch"]) + 1 for row in csv.DictReader(file)]


def small(recipe: str) -> list[str]:
    """Options with which a recipe is trained for one epoch, on windows of 64 pixels."""
    return ["--recipe", recipe, "--epochs", "1", *_set(_small_windows(recipe))]


def thinner(recipe: str) -> list[str]:
    """Options with which a recipe's networks have few channels and steps, backbones left out."""
    return _set(_few_channels(recipe))


def changes(recipe: str) -> list[str]:
    """Both, as `Recipe.with_changes` takes them."""
    return _small_windows(recipe) + _few_channels(recipe)


def _small_windows(recipe: str) -> list[str]:
    return [
        change
        for stage in find(recipe).stages
        for change in (f"stages.{stage}.phases.0.window=64", f"stages.{stage}.phases.0.scale=1")
    ]


def _few_channels(recipe: str) -> list[str]:
    options = {
        "resunet_segmenter": {"filters": [4, 8, 8]},
        "resunet_multitask": {"filters": [4, 4, 8, 8, 8], "depths": [1, 1, 1, 1, 1]},
        "mobilenetv2_multitask": {"widths": [8, 8, 8, 8]},
    }
    return [
        f"stages.{stage}.options.{option}={value}"
        for stage, each in find(recipe).stages.items()
        for option, value in options.get(each.network, {}).items()
    ]


def _set(changes: list[str]) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def few_slices(patch: pytest.MonkeyPatch) -> None:
    """Has every export ask Triton about few slices; how many changes nothing about how."""
    patch.setattr("training.export.PARITY_SLICES", 12)
    patch.setattr("training.export.PHANTOMS", 12)
