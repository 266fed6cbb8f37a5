"""Reads the LGG MRI segmentation set as Kaggle ships it, and splits it by patient.

The layout is `ROOT/<case>/<case>_<n>.tif` with `<case>_<n>_mask.tif` beside it; a case is a volume, its slices numbered
along the axis. Source: Buda, Saha, Mazurowski 2019, doi:10.1016/j.compbiomed.2019.05.002.
"""

import csv
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gliogate.contract import CHANNELS, SLICE_SIZE
from gliogate.phantom import make_phantoms

logger = logging.getLogger(__name__)

SLICE_NAME = re.compile(r"(?P<case>(?P<patient>[^_]+_[^_]+_[^_]+)_\d+)_(?P<number>\d+)\.tiff?")


class DataError(ValueError):
    """A dataset does not have the layout, or a file not the content, that training needs."""


@dataclass(frozen=True)
class Dataset:
    """Slices with their masks, in the order of patient and axis.

    Attributes:
        patients: the patient of each slice, shape (N,).
        names: the file stem of each slice, shape (N,).
        images: uint8, shape (N, 256, 256, 3), channels pre-contrast, FLAIR, post-contrast.
        masks: uint8 0 or 1, shape (N, 256, 256).
    """

    patients: NDArray[np.str_]
    names: NDArray[np.str_]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def tumor(self) -> NDArray[np.bool_]:
        """Which slices show tumor: those whose mask is not empty. Shape (N,)."""
        return self.masks.any(axis=(1, 2))

    def of(self, patients: Iterable[str]) -> "Dataset":
        """The slices of these patients only."""
        keep = np.isin(self.patients, list(patients))
        return Dataset(self.patients[keep], self.names[keep], self.images[keep], self.masks[keep])

    def volumes(self) -> Iterator[tuple[str, NDArray[np.intp]]]:
        """Each patient with the indices of its slices."""
        for patient in np.unique(self.patients):
            yield str(patient), np.flatnonzero(self.patients == patient)


def read_kaggle(root: Path) -> Dataset:
    """Reads every slice that has a mask.

    The patient is the first three words of the folder's name. `data_mask.csv` names another patient in nearly every
    row, so its `patient_id` is not used; where it disagrees with the folder, that is logged.

    Raises:
        DataError: no slice is there, a mask is missing, or a file cannot be read or has another shape.
    """
    slices = sorted((match["patient"], int(match["number"]), path) for path, match in _slice_files(root))
    if not slices:
        raise DataError(f"{root}: no <case>/<case>_<n>.tif here; expected the folders of the Kaggle download")
    _warn_of_wrong_patients(root / "data_mask.csv")
    return Dataset(
        patients=np.array([patient for patient, _, _ in slices]),
        names=np.array([path.stem for _, _, path in slices]),
        images=np.stack([_read(path, cv2.IMREAD_COLOR_RGB) for _, _, path in slices]),
        masks=np.stack([_read_mask(path) for _, _, path in slices]),
    )


def phantoms(count: int, *, prevalence: float, seed: int) -> Dataset:
    """Synthetic slices as a dataset; each is a patient of its own."""
    made = list(make_phantoms(count, prevalence=prevalence, seed=seed))
    names = np.array([phantom.name for phantom in made])
    return Dataset(names, names, np.stack([p.image for p in made]), np.stack([p.mask for p in made]))


def split_patients(dataset: Dataset, *, validation: float = 0.2, seed: int = 0) -> tuple[list[str], list[str]]:
    """Splits by patient, stratified by tumor volume: sorted by it, each run of patients gives its share.

    Returns:
        Names of the training and of the validation patients, each sorted.
    """
    volume = {patient: int(dataset.masks[rows].sum()) for patient, rows in dataset.volumes()}
    by_volume = sorted(volume, key=lambda patient: (volume[patient], patient))
    rng = np.random.default_rng(seed)
    strata = np.array_split(by_volume, max(1, round(len(by_volume) * validation)))
    held_out = sorted(str(rng.choice(stratum)) for stratum in strata)
    return sorted(set(by_volume) - set(held_out)), held_out


def _slice_files(root: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    for path in root.glob("*/*.tif*"):
        match = SLICE_NAME.fullmatch(path.name)
        if match and match["case"] == path.parent.name:
            yield path, match


def _read(path: Path, flags: int) -> NDArray[np.uint8]:
    expected = (SLICE_SIZE, SLICE_SIZE) if flags == cv2.IMREAD_GRAYSCALE else (SLICE_SIZE, SLICE_SIZE, len(CHANNELS))
    image = cv2.imread(str(path), flags)
    if image is None:
        raise DataError(f"{path}: cannot be read as a picture")
    if image.shape != expected:
        raise DataError(f"{path}: shape {image.shape}, expected {expected}")
    return image.astype(np.uint8, copy=False)


def _read_mask(slice_path: Path) -> NDArray[np.uint8]:
    path = slice_path.with_name(f"{slice_path.stem}_mask{slice_path.suffix}")
    if not path.exists():
        raise DataError(f"{path}: the mask of {slice_path.name} is missing")
    return (_read(path, cv2.IMREAD_GRAYSCALE) > 127).astype(np.uint8)


def _warn_of_wrong_patients(table: Path) -> None:
    if not table.exists():
        return
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = sum(Path(row["image_path"]).parts[0] != row["patient_id"] for row in rows)
    if wrong:
        logger.warning(
            "%s: patient_id disagrees with the folder of image_path in %d of %d rows; patients are taken from folders",
            table, wrong, len(rows),
        )  # fmt: skip
