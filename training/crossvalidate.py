"""`crossvalidate`: a recipe on every patient, each judged by networks that never saw them."""

import logging
from pathlib import Path

from training.data import Dataset, fold_splits
from training.errors import RunError
from training.recipe import Recipe
from training.run import Run
from training.train import train

logger = logging.getLogger(__name__)

FOLDS = 5


def crossvalidate(
    folder: Path, dataset: Dataset, recipe: Recipe, *, folds: int = FOLDS, seed: int = 0, workers: int = 2
) -> list[Run]:
    """Trains a run for each fold, in `folder/fold-<n>`; what was trained already is not trained again.

    Args:
        folder: where the folds' runs go.
        dataset: of all patients.
        recipe: how.
        folds: how many; each patient is held out in one.
        seed: of the folds, and with the fold's number of the training.
        workers: threads that prepare batches.

    Raises:
        DataError: a fold lacks a class, or there are fewer patients than folds.
        RunError: the folder holds a cross-validation of another recipe, of other folds or of another seed.
    """
    if (folder / f"fold-{folds + 1}").exists():
        raise RunError(f"{folder}: holds more than the {folds} folds that are asked for; give these another folder")
    splits = fold_splits(dataset, folds=folds, seed=seed)
    # All folders first: a folder of other folds is found out before anything is trained.
    runs = [Run.create(folder / f"fold-{n}", recipe, split, seed=seed + n) for n, split in enumerate(splits, start=1)]
    for number, run in enumerate(runs, start=1):
        logger.info("fold %d of %d", number, folds)
        train(run, dataset, seed=seed + number, workers=workers)
    return runs
