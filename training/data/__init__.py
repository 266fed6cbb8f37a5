"""Slices with their masks: where they come from, and how they are split by patient."""

from training.data.dataset import Dataset, phantoms
from training.data.kaggle import read_kaggle
from training.data.splits import Split, fold_splits, holdout_split

__all__ = ["Dataset", "Split", "fold_splits", "holdout_split", "phantoms", "read_kaggle"]
