"""Who is held out: by patient, stratified by tumor volume."""

import numpy as np
import pytest

from training.data import Dataset, Split, fold_splits, holdout_split
from training.errors import DataError


def patients(count: int, *, slices: int = 4) -> Dataset:
    """Patient n has n + 1 pixels of tumor in the first of his slices."""
    names = np.repeat([f"p{n:02}" for n in range(count)], slices)
    masks = np.zeros((count * slices, 8, 8), np.uint8)
    for n in range(count):
        masks[n * slices].flat[: n + 1] = 1
    return Dataset(names, names, np.zeros((len(names), 8, 8, 3), np.uint8), masks)


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_each_patient_is_held_out_once(folds: int) -> None:
    splits = fold_splits(patients(23), folds=folds)
    held_out = [patient for split in splits for patient in split.validation]
    assert sorted(held_out) == sorted(set(held_out)) == [f"p{n:02}" for n in range(23)]
    assert all(not set(split.training) & set(split.validation) for split in splits)
    assert {len(split.validation) for split in splits} <= {23 // folds, 23 // folds + 1}


def test_folds_are_alike_in_tumor_volume() -> None:
    for split in fold_splits(patients(25), folds=5):
        assert [int(patient[1:]) // 5 for patient in split.validation] == [0, 1, 2, 3, 4]


def test_a_holdout_takes_its_share_of_small_and_of_large_tumors() -> None:
    split = holdout_split(patients(20), validation=0.25)
    assert [int(patient[1:]) // 4 for patient in split.validation] == [0, 1, 2, 3, 4]
    assert len(split.training) == 15


def test_the_seed_decides() -> None:
    data = patients(20)
    assert fold_splits(data, folds=4, seed=1) == fold_splits(data, folds=4, seed=1)
    assert fold_splits(data, folds=4, seed=1) != fold_splits(data, folds=4, seed=2)


@pytest.mark.parametrize("folds", [1, 6])
def test_folds_that_cannot_be_are_refused(folds: int) -> None:
    with pytest.raises(DataError, match=f"{folds} folds of 5 patients; 2 to 5 are possible"):
        fold_splits(patients(5), folds=folds)


def test_an_empty_class_in_a_fold_is_named() -> None:
    data = patients(4)
    healthy = data.masks.copy()
    healthy[:8] = 0
    with pytest.raises(DataError, match=r"fold . of 4: split: no slice with tumor among the 1 patients of validation"):
        fold_splits(Dataset(data.patients, data.names, data.images, healthy), folds=4)


def test_a_patient_that_the_dataset_has_not_is_named() -> None:
    with pytest.raises(DataError, match="training names p99, not in the dataset"):
        Split(("p00", "p99"), ("p01",)).check(patients(3))
