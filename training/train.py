"""`train`: both networks, from a dataset to a run folder."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from training import metrics
from training.data import Dataset, phantoms, read_kaggle
from training.fit import fit
from training.predict import predict
from training.recipe import RECIPES, Stage
from training.run import Run

logger = logging.getLogger(__name__)

PHANTOMS = 600


def train(
    data: Path,
    folder: Path,
    *,
    stages: Sequence[Stage],
    epochs: int | None = None,
    phantom_share: float | None = None,
    weights: str | None = None,
    seed: int = 0,
) -> None:
    """Trains the stages that are asked for, or carries on where an earlier call stopped.

    The first call writes the split to the run folder; later ones keep to it.

    Args:
        data: the Kaggle download, unpacked.
        folder: the run; it is made where it is not there.
        stages: which networks, in this order.
        epochs: in place of the recipe's number.
        phantom_share: in place of the recipe's.
        weights: see `training.recipe.build`.
        seed: of the split, the weights, the order and the augmentation.

    Raises:
        DataError: the dataset has not the layout or content that is needed.
    """
    # Matrix units of the last years' CPUs and GPUs take bfloat16; the weights stay float32.
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    dataset = read_kaggle(data)
    run = Run.open_or_create(folder, dataset, seed=seed)
    training, validation = dataset.of(run.training), dataset.of(run.validation)
    synthetic = phantoms(PHANTOMS, prevalence=0.5, seed=seed + 1)
    logger.info(
        "%d patients (%d slices, %d with tumor) to train on, %d patients (%d slices) to validate",
        len(run.training), len(training), training.tumor.sum(), len(run.validation), len(validation),
    )  # fmt: skip
    for stage in stages:
        recipe = RECIPES[stage]
        if epochs is not None:
            recipe = recipe.with_epochs(epochs)
        if phantom_share is not None:
            recipe = replace(recipe, phantoms=phantom_share)
        figures = _detector_figures if stage == "detector" else _segmenter_figures
        fit(
            stage,
            recipe,
            training,
            synthetic,
            lambda model, figures=figures: figures(model, validation),
            folder,
            seed=seed,
            weights=weights,
        )
        keras.utils.clear_session()


def _detector_figures(model: keras.Model, validation: Dataset) -> dict[str, float]:
    logits = predict(model, validation.images)["tumor"][:, 0]
    return {"validation_auc": metrics.auc(logits, validation.tumor)}


def _segmenter_figures(model: keras.Model, validation: Dataset) -> dict[str, float]:
    predicted = predict(model, validation.images) > 0
    per_patient = [metrics.dice(predicted[rows], validation.masks[rows]) for _, rows in validation.volumes()]
    return {"validation_dice": float(np.mean(per_patient))}
