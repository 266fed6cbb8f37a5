"""What the commands of `python -m training` do, each in the order in which its parts come."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import keras

from training.calibrate import Calibration, Part, pooled
from training.crossvalidate import crossvalidate as train_folds
from training.data import Dataset, Split, holdout_split, read_kaggle
from training.errors import RunError, TrainingError
from training.evaluate import evaluate as write_evaluation
from training.evaluate import folds_of, held_out, is_repository
from training.recipe import Recipe
from training.recipes import find
from training.report.table import show
from training.run import Run, read_split
from training.train import check_recipe
from training.train import train as train_stages

EVALUATION = Path("build/evaluation")
"""Where the evaluation of a model repository goes."""


def train(arguments: Namespace) -> None:
    """Trains what a recipe has; once all of it is, calibrates and evaluates it."""
    recipe = _recipe(arguments)
    check_recipe(recipe, arguments.stages)
    dataset = _dataset(arguments)
    split = _split(arguments, recipe, dataset)
    split.check(dataset)
    # Not before all is well: a folder that holds a run takes none of another recipe or split.
    run = Run.create(arguments.run, recipe, split, seed=arguments.seed)
    train_stages(run, dataset, stages=arguments.stages, seed=arguments.seed, workers=arguments.workers)
    if run.is_trained() and run.split.validation:
        _judge([run], dataset, run.folder, recipe.sensitivity)


def crossvalidate(arguments: Namespace) -> None:
    """Trains every fold, then calibrates and evaluates all of them together."""
    recipe = _recipe(arguments)
    check_recipe(recipe)
    dataset = _dataset(arguments)
    runs = train_folds(
        arguments.run, dataset, recipe, folds=arguments.folds, seed=arguments.seed, workers=arguments.workers
    )
    _judge(runs, dataset, arguments.run, recipe.sensitivity)


def calibrate(arguments: Namespace) -> None:
    """Measures probability and operating point anew, or takes them over from a cross-validation."""
    if arguments.crossvalidation:
        run = Run.open(arguments.run)
        _check_same_recipe(run, arguments.crossvalidation)
        Calibration.read(arguments.crossvalidation).write(run.folder)
        return
    runs = folds_of(arguments.run) or [Run.open(arguments.run)]
    sensitivity = arguments.sensitivity or runs[0].recipe.sensitivity
    _calibrate(held_out(runs, _dataset(arguments)), arguments.run, sensitivity)


def evaluate(arguments: Namespace) -> None:
    """Writes the report, and prints its figures.

    A model repository is not written to: the report shows patients, and Triton loads what is there.
    """
    output = arguments.output or (EVALUATION if is_repository(arguments.run) else arguments.run)
    show(write_evaluation(arguments.run, _dataset(arguments), output))
    if (page := output / "report.html").exists():
        print(page)


def export(arguments: Namespace) -> None:
    """Writes the next version.

    Raises:
        TrainingError: Keras runs with another backend than TensorFlow, for which it exports by other packages.
    """
    if (backend := keras.backend.backend()) != "tensorflow":
        raise TrainingError(
            f"export: Keras runs with {backend}, expected TensorFlow; unset KERAS_BACKEND. What was trained with "
            f"{backend} is exported all the same"
        )
    from training.export import export as write_version

    run = Run.open(arguments.run)
    if arguments.crossvalidation:
        _check_same_recipe(run, arguments.crossvalidation)
    evidence, force = arguments.crossvalidation, arguments.force
    write_version(run, _dataset(arguments), arguments.model_repository, evidence=evidence, force=force)


def _judge(runs: Sequence[Run], dataset: Dataset, folder: Path, sensitivity: float) -> None:
    parts = held_out(runs, dataset)
    _calibrate(parts, folder, sensitivity)
    show(write_evaluation(folder, dataset, folder, parts=parts))


def _calibrate(parts: Sequence[Part], folder: Path, sensitivity: float) -> None:
    Calibration.measure(*pooled(parts), sensitivity=sensitivity).write(folder)


def _recipe(arguments: Namespace) -> Recipe:
    recipe = find(arguments.recipe)
    if arguments.epochs:
        recipe = recipe.with_epochs(arguments.epochs)
    if arguments.weights:
        recipe = recipe.with_weights(arguments.weights)
    return recipe.with_changes(arguments.set)


def _split(arguments: Namespace, recipe: Recipe, dataset: Dataset) -> Split:
    if arguments.split:
        return read_split(arguments.split)
    if arguments.all_patients:
        return Split(tuple(sorted(set(dataset.patients.tolist()))), ())
    return holdout_split(dataset, validation=recipe.validation, seed=arguments.seed)


def _dataset(arguments: Namespace) -> Dataset:
    return read_kaggle(arguments.data, cache=arguments.cache)


def _check_same_recipe(run: Run, crossvalidation: Path) -> None:
    folds = folds_of(crossvalidation)
    if not folds:
        raise RunError(f"{crossvalidation}: no cross-validation here (no fold-1); `crossvalidate` makes one")
    if folds[0].recipe != run.recipe:
        raise RunError(f"{crossvalidation}: of another recipe than {run.folder}; its figures are not this run's")
