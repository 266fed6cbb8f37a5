"""`evaluate`: a run, a cross-validation or what is served, on patients that its networks did not learn from."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gliogate.contract import ENSEMBLE, SLICE_SIZE
from training.answers import Answers
from training.calibrate import Calibration, Part, crossfitted, pooled
from training.data import Dataset
from training.errors import DataError, RunError
from training.heads import heads_of
from training.joined import joined
from training.metadata import newest_metadata
from training.networks import logits_of, network_of
from training.reliability import PixelCalibration, figures
from training.report.figures import summarize
from training.report.page import write_report
from training.run import Run
from training.served import ask

logger = logging.getLogger(__name__)


def evaluate(target: Path, dataset: Dataset, output: Path, *, parts: Sequence[Part] | None = None) -> dict[str, Any]:
    """Writes `summary.json` and `report.html`.

    Args:
        target: a run, judged on its validation patients; a cross-validation, each patient judged by the networks that
            did not learn from him; or a model repository, served by Triton and judged on every patient of the dataset
            that its networks did not learn from.
        dataset: all slices there are.
        output: the folder to write to.
        parts: of a run or a cross-validation what `held_out` gave, where it is at hand.

    Returns:
        The content of `summary.json`.

    Raises:
        RunError: the target is none of these, or was not trained or calibrated yet.
        DataError: the dataset lacks patients that are needed.
    """
    if is_repository(target):
        title, judged, answers, threshold, more = _served(target, dataset)
    elif runs := folds_of(target):
        title, judged, answers, threshold, more = _crossvalidated(target, runs, parts or held_out(runs, dataset))
    else:
        run = Run.open(target)
        title, judged, answers, threshold, more = _run(run, parts or held_out([run], dataset))
    summary = summarize(judged, answers, threshold=threshold) | more
    write_report(output, title, judged, answers, summary)
    return summary


def is_repository(folder: Path) -> bool:
    """Whether this is a model repository, as against a run or a cross-validation."""
    return (folder / ENSEMBLE.name).is_dir()


def folds_of(folder: Path) -> list[Run]:
    """The runs of a cross-validation, in order; none where the folder holds no cross-validation."""
    return [Run.open(path) for path in sorted(folder.glob("fold-*"), key=lambda path: int(path.name[5:]))]


def held_out(runs: Sequence[Run], dataset: Dataset) -> list[Part]:
    """What each run says of its validation patients, which takes most of an evaluation's time.

    Raises:
        RunError: a run was not trained to its end, or keeps no patients for validation.
        DataError: the dataset lacks some of them.
    """
    parts = []
    for run in runs:
        if not run.split.validation:
            raise RunError(f"{run.folder}: learned from every patient; its figures are those of the cross-validation")
        run.split.check(dataset)
        validation = dataset.of(run.split.validation)
        parts.append((logits_of(run, validation.images), validation))
    return parts


def _run(run: Run, parts: Sequence[Part]) -> tuple[str, Dataset, Answers, float, dict[str, Any]]:
    calibration = Calibration.read(run.folder)
    [(logits, validation)] = parts
    title = f"{run.recipe.name}: {len(run.split.validation)} validation patients"
    more = _origin(run.recipe.name, calibration.patients, validation) | _cost([run])
    more |= in_heads(parts, [calibration], threshold=calibration.heads.point.detection_threshold)
    return title, validation, calibration.answers(logits), calibration.point.detection_threshold, more


def _crossvalidated(
    folder: Path, runs: Sequence[Run], parts: Sequence[Part]
) -> tuple[str, Dataset, Answers, float, dict[str, Any]]:
    recipe = runs[0].recipe
    calibrations = crossfitted(parts, sensitivity=recipe.sensitivity)
    answers = [calibration.answers(logits) for calibration, (logits, _) in zip(calibrations, parts, strict=True)]
    of_folds = [
        summarize(data, answer, threshold=calibration.point.detection_threshold)
        for (_, data), answer, calibration in zip(parts, answers, calibrations, strict=True)
    ]
    # What is shipped is calibrated by all folds; its threshold stands for those of the folds, which differ a little.
    shipped = Calibration.read(folder)
    threshold = shipped.point.detection_threshold
    title = f"{recipe.name}: cross-validation, {len(runs)} folds by patient"
    more = {"recipe": recipe.name, "folds": of_folds} | _cost(runs)
    more |= in_heads(parts, calibrations, threshold=shipped.heads.point.detection_threshold)
    return title, pooled(parts)[1], joined(answers), threshold, more


def _served(repository: Path, dataset: Dataset) -> tuple[str, Dataset, Answers, float, dict[str, Any]]:
    version, metadata = newest_metadata(repository)
    learned_from = set(metadata["data"]["training_patients"])
    strangers = sorted(set(np.unique(dataset.patients).tolist()) - learned_from)
    if not strangers:
        raise DataError("every patient of the dataset is among those that the served networks learned from")
    left_out = len(np.unique(dataset.patients)) - len(strangers)
    if left_out:
        logger.warning("%d patients are left out: the served networks learned from them", left_out)
    judged = dataset.of(strangers)
    [answers] = ask(repository, judged)
    title = f"version {version} as served: {len(strangers)} patients that it did not learn from"
    point = metadata["operating_point"]
    more = {"version": version} | _origin(metadata["recipe"]["name"], point["measured_on"]["patients"], judged)
    return title, judged, answers, point["detection_threshold"], more


def in_heads(parts: Sequence[Part], calibrations: Sequence[Calibration], *, threshold: float) -> dict[str, Any]:
    """The figures of slices that are judged together, and of what is said beside their masks.

    Args:
        parts: what networks say of slices that they did not learn from.
        calibrations: of each part.
        threshold: the probability at which the gate opened.
    """
    answers, measured, pixels = [], [], []
    for (logits, dataset), calibration in zip(parts, calibrations, strict=True):
        answers.append(calibration.heads.answers(logits, dataset, calibration.scaling))
        heads = calibration.heads
        found = heads_of(logits, dataset, answers[-1].opened, calibration.masks, heads.mask_edge)
        measured.append((calibration.heads.reliability, found))
        pixels.append(PixelCalibration.of(logits, dataset, answers[-1].opened, calibration.masks))
    summary = summarize(pooled(parts)[1], joined(answers), threshold=threshold)
    kept = ("threshold", "detector", "through_gate", "cases")
    reliability = figures(measured) | PixelCalibration.total(pixels).figures()
    return {"in_heads": {name: summary[name] for name in kept} | {"reliability": reliability}}


def _origin(recipe: str, measured_on: Sequence[str], judged: Dataset) -> dict[str, Any]:
    """Where networks, probability and threshold come from; what was measured on the judged themselves flatters."""
    also_judged = len(set(measured_on) & set(judged.patients.tolist()))
    return {"recipe": recipe, "calibration": {"patients": len(measured_on), "also_judged": also_judged}}


def _cost(runs: Sequence[Run]) -> dict[str, Any]:
    """What the recipe takes: parameters of its networks, and seconds of training, of all runs together."""
    stages = runs[0].recipe.stages.values()
    parameters = sum(network_of(stage, size=SLICE_SIZE, initial=False).count_params() for stage in stages)
    seconds = [run.seconds() for run in runs]
    return {"parameters": parameters, "seconds": None if None in seconds else round(sum(filter(None, seconds)))}
