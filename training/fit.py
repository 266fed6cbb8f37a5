"""Trains one network, epoch by epoch, so that a run can be stopped at any moment and carried on."""

import csv
import logging
import time
from collections.abc import Callable
from pathlib import Path

import keras

from training.batches import EpochBatches, Sampling
from training.data import Dataset
from training.files import replacing
from training.recipe import Recipe, Stage, build

logger = logging.getLogger(__name__)


def fit(
    stage: Stage,
    recipe: Recipe,
    training: Dataset,
    synthetic: Dataset,
    validate: Callable[[keras.Model], dict[str, float]],
    folder: Path,
    *,
    seed: int = 0,
    weights: str | None = None,
) -> keras.Model:
    """Trains from the last whole epoch that `folder` holds, or from the start, to the recipe's end.

    After each epoch `folder/<stage>.keras` (network and optimizer) is replaced in one step and a line is added to
    `folder/<stage>.csv`.

    Args:
        stage: which network.
        recipe: how.
        training: real slices.
        synthetic: phantoms, of which each epoch takes some.
        validate: figures for the progress line, after every second epoch and the last.
        folder: where the run lives; it exists.
        seed: of weights, order and augmentation.
        weights: see `training.recipe.build`.

    Returns:
        The trained network.
    """
    checkpoint, log = folder / f"{stage}.keras", folder / f"{stage}.csv"

    def batches(epoch: int) -> EpochBatches:
        sampling = Sampling(recipe.batch_size, recipe.sizes[epoch], recipe.phantoms)
        target = "mask" if stage == "segmenter" else "tumor"
        return EpochBatches(training, synthetic, sampling, target=target, epoch=epoch, seed=seed)

    steps = len(batches(0))
    if checkpoint.exists():
        model = keras.saving.load_model(checkpoint)
        logger.info("%s: carrying on after epoch %d of %d", stage, _epochs_done(model, steps), recipe.epochs)
    else:
        keras.utils.set_random_seed(seed)
        model = build(stage, recipe, steps_per_epoch=steps, weights=weights)
        log.unlink(missing_ok=True)

    for epoch in range(_epochs_done(model, steps), recipe.epochs):
        start = time.monotonic()
        history = model.fit(batches(epoch), initial_epoch=epoch, epochs=epoch + 1, verbose="auto")
        seconds = time.monotonic() - start
        figures = {name: values[-1] for name, values in history.history.items()}
        if epoch % 2 or epoch + 1 == recipe.epochs:
            figures |= validate(model)
        with replacing(checkpoint) as partial:
            model.save(partial)
        row = {"epoch": epoch + 1, "size": recipe.sizes[epoch], "seconds": round(seconds, 1)}
        _append(log, row | {name: round(value, 4) for name, value in figures.items()})
        logger.info("%s: epoch %d of %d in %.0f s: %s", stage, epoch + 1, recipe.epochs, seconds, _line(figures))
    return model


def _epochs_done(model: keras.Model, steps_per_epoch: int) -> int:
    """The optimizer counts its steps and is saved with the weights: the two cannot disagree, as a file beside might."""
    return int(model.optimizer.iterations) // steps_per_epoch


def _append(log: Path, row: dict[str, float]) -> None:
    new = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _line(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
