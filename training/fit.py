"""Trains one network, epoch by epoch, so that a run can be stopped at any moment and carried on."""

import csv
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
from rich.console import Console
from rich.progress import track

from training.batches import Batch, EpochBatches, Sampling
from training.data import Dataset
from training.files import replacing
from training.recipe import Recipe, Stage, build

logger = logging.getLogger(__name__)

PREPARED = 4
"""Batches that are prepared ahead of the one that the network is at."""


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
        validate: figures for the log, after every second epoch and the last.
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
        losses = _run_epoch(model, batches(epoch), f"{stage}: epoch {epoch + 1} of {recipe.epochs}")
        seconds = time.monotonic() - start
        figures = validate(model) if epoch % 2 or epoch + 1 == recipe.epochs else {}
        with replacing(checkpoint) as partial:
            model.save(partial)
        validated = next(iter(figures.values()), None)
        row = {"epoch": epoch + 1, "size": recipe.sizes[epoch], "seconds": seconds, "validation": validated}
        _append(log, row | losses)
        told = ", ".join(f"{name} {value:.4f}" for name, value in (losses | figures).items())
        logger.info("%s: epoch %d of %d in %.0f s: %s", stage, epoch + 1, recipe.epochs, seconds, told)
    return model


def _run_epoch(model: keras.Model, batches: EpochBatches, description: str) -> dict[str, float]:
    """One pass; returns the means over it.

    Not `Model.fit`: at the end of each call TensorFlow waits, doing nothing, for a thread that tunes its input pipeline
    and sleeps for up to a minute.
    """
    model.reset_metrics()
    means: dict[str, float] = {}
    console = Console(stderr=True)
    bar = {"console": console, "disable": not console.is_terminal, "transient": True}
    for images, targets in track(_prepared(batches), description, total=len(batches), **bar):
        means = model.train_on_batch(images, targets, return_dict=True)
    return {name: float(value) for name, value in means.items()}


def _prepared(batches: EpochBatches) -> Iterator[Batch]:
    """The batches in order, each prepared while the network is at the ones before."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        waiting = [pool.submit(batches.__getitem__, index) for index in range(min(PREPARED, len(batches)))]
        for index in range(len(batches)):
            yield waiting.pop(0).result()
            if index + PREPARED < len(batches):
                waiting.append(pool.submit(batches.__getitem__, index + PREPARED))


def _epochs_done(model: keras.Model, steps_per_epoch: int) -> int:
    """The optimizer counts its steps and is saved with the weights: the two cannot disagree, as a file beside might."""
    return int(model.optimizer.iterations) // steps_per_epoch


def _append(log: Path, row: dict[str, float | None]) -> None:
    new = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()})
