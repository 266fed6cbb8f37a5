"""`train`: a recipe's networks, from a dataset to a run folder."""

import logging
from collections.abc import Sequence
from functools import partial

import keras
import numpy as np

from training import metrics
from training.data import Dataset, phantoms
from training.devices import precision_of
from training.errors import RecipeError
from training.fit import build, fit
from training.predict import predict
from training.recipe import Recipe
from training.run import Run

logger = logging.getLogger(__name__)

PHANTOM_EPOCHS = 3
"""Epochs that the phantoms are enough for without showing one twice; making them takes time."""


def check_recipe(recipe: Recipe, stages: Sequence[str] | None = None) -> None:
    """Builds each network once, which takes seconds, so that a mistake is not found out after hours of training.

    Args:
        recipe: its stages are checked.
        stages: only these; all where None.

    Raises:
        RecipeError: there is no such stage, or no such network; the message names the stage.
    """
    if unknown := sorted(set(stages or ()) - set(recipe.stages)):
        raise RecipeError(f"recipe {recipe.name}: no stage {', '.join(unknown)}; it has {', '.join(recipe.stages)}")
    if not any("mask" in stage.losses for stage in recipe.stages.values()):
        raise RecipeError(f"recipe {recipe.name}: no stage learns `mask`, so there would be no segmenter")
    for name in stages or recipe.stages:
        try:
            build(recipe.stages[name], steps_per_epoch=1)
        except RecipeError as error:
            raise RecipeError(f"recipe {recipe.name}: stages.{name}: {error}") from error
        keras.utils.clear_session()


def train(run: Run, dataset: Dataset, *, stages: Sequence[str] | None = None, seed: int = 0, workers: int = 2) -> None:
    """Trains the networks of a run, or carries on where an earlier call stopped.

    Args:
        run: where and what.
        dataset: slices of the run's patients.
        stages: which of its networks; all where None.
        seed: of the weights, the order and the augmentation.
        workers: threads that prepare batches.

    Raises:
        DataError: the dataset has not the patients of the split, or a side of it lacks a class.
        RecipeError: there is no such network; see `check_recipe`, which says so before anything is done.
    """
    run.split.check(dataset)
    precision = precision_of(run.recipe)
    keras.mixed_precision.set_dtype_policy(precision)
    training, validation = dataset.of(run.split.training), dataset.of(run.split.validation)
    shown = max(stage.phantoms * (1 + stage.others) for stage in run.recipe.stages.values()) * training.tumor.sum()
    synthetic = phantoms(max(2, round(PHANTOM_EPOCHS * shown)), prevalence=0.5, seed=seed + 1)
    logger.info(
        "%s: %d patients (%d slices, %d with tumor) to train on, %d patients (%d slices) to validate, in %s",
        run.recipe.name, len(run.split.training), len(training), training.tumor.sum(),
        len(run.split.validation), len(validation), precision,
    )  # fmt: skip
    for name in stages or run.recipe.stages:
        if name in run.recipe.pretrainable and not run.recipe.stages[name].options.get("weights"):
            logger.warning("%s: starts from nothing; the recipe's figures are of `--weights imagenet`", name)
        validate = partial(_figures, validation=validation)
        fit(name, run.recipe.stages[name], training, synthetic, validate, run.folder, seed=seed, workers=workers)
        keras.utils.clear_session()


def _figures(network: keras.Model, validation: Dataset) -> dict[str, float]:
    """Mean Dice over patients' volumes, without a gate, and AUC over slices; nothing of nobody."""
    if not len(validation):
        return {}
    said = predict(network, validation.images)
    figures = {}
    if "mask" in said:
        masks = said["mask"] > 0
        per_patient = [metrics.dice(masks[rows], validation.masks[rows]) for _, rows in validation.volumes()]
        figures["val_dice"] = float(np.nanmean(per_patient))
    if "tumor" in said:
        figures["val_auc"] = metrics.auc(said["tumor"][:, 0], validation.tumor)
    return figures
