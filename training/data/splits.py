"""Who is learned from and who is held out: by patient, stratified by tumor volume."""

from dataclasses import dataclass

import numpy as np

from training.data.dataset import Dataset
from training.errors import DataError


@dataclass(frozen=True)
class Split:
    """Patients on the two sides of a split.

    Attributes:
        training: patients that networks learn from.
        validation: patients that they never see; thresholds and figures come from these. None for a run that learns
            from everyone, whose figures are those of a cross-validation.

    Raises:
        DataError: there is nobody to learn from, or a patient is on both sides.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]

    def __post_init__(self) -> None:
        if both := sorted(set(self.training) & set(self.validation)):
            raise DataError(f"split: {', '.join(both)} on both sides; a patient belongs to one")
        if not self.training:
            raise DataError("split: no patient to learn from")

    def check(self, dataset: Dataset) -> None:
        """Holds the split against a dataset.

        Raises:
            DataError: a patient is not in it, or a side of the split has only tumor slices or none.
        """
        known = set(dataset.patients.tolist())
        for side in ("training", "validation"):
            patients = getattr(self, side)
            if missing := sorted(set(patients) - known):
                raise DataError(f"split: {side} names {', '.join(missing)}, not in the dataset")
            if not patients:
                continue
            tumor = dataset.tumor[np.isin(dataset.patients, patients)]
            if tumor.all() or not tumor.any():
                what = "no slice without tumor" if tumor.all() else "no slice with tumor"
                raise DataError(f"split: {what} among the {len(patients)} patients of {side}; both classes are needed")


def holdout_split(dataset: Dataset, *, validation: float, seed: int = 0) -> Split:
    """One split: of patients sorted by tumor volume, each run of neighbours gives one to validation.

    Args:
        dataset: what to split.
        validation: share of the patients to hold out.
        seed: of the draw within each stratum.

    Raises:
        DataError: there are fewer than two patients.
    """
    patients = _by_volume(dataset)
    if len(patients) < 2:
        raise DataError(f"a split needs two patients at least, this dataset has {len(patients)}")
    rng = np.random.default_rng(seed)
    strata = np.array_split(patients, min(len(patients) - 1, max(1, round(len(patients) * validation))))
    held_out = {str(rng.choice(stratum)) for stratum in strata}
    split = Split(tuple(sorted(set(patients) - held_out)), tuple(sorted(held_out)))
    split.check(dataset)
    return split


def fold_splits(dataset: Dataset, *, folds: int, seed: int = 0) -> list[Split]:
    """Splits of a cross-validation: of patients sorted by tumor volume, each run of `folds` gives one to each fold.

    Every patient is in the validation side of exactly one split.

    Raises:
        DataError: there are fewer patients than folds, or a fold lacks a class.
    """
    patients = _by_volume(dataset)
    if not 2 <= folds <= len(patients):
        raise DataError(f"{folds} folds of {len(patients)} patients; 2 to {len(patients)} are possible")
    rng = np.random.default_rng(seed)
    fold_of: dict[str, int] = {}
    for start in range(0, len(patients), folds):
        stratum = patients[start : start + folds]
        fold_of |= dict(zip(stratum, rng.permutation(folds).tolist(), strict=False))
    splits = []
    for fold in range(folds):
        held_out = {patient for patient in patients if fold_of[patient] == fold}
        splits.append(Split(tuple(sorted(set(patients) - held_out)), tuple(sorted(held_out))))
    for number, split in enumerate(splits, start=1):
        try:
            split.check(dataset)
        except DataError as error:
            raise DataError(f"fold {number} of {folds}: {error}") from None
    return splits


def _by_volume(dataset: Dataset) -> list[str]:
    volume = {patient: int(dataset.masks[rows].sum()) for patient, rows in dataset.volumes()}
    return sorted(volume, key=lambda patient: (volume[patient], patient))
