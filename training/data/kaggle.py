"""Finds and reads the LGG MRI segmentation set as Kaggle ships it.

The layout is `ROOT/<case>/<case>_<n>.tif` with `<case>_<n>_mask.tif` beside it; a case is a volume, its slices numbered
along the axis. Source: Buda, Saha, Mazurowski 2019, doi:10.1016/j.compbiomed.2019.05.002.
"""

import csv
import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from gliogate.contract import CHANNELS, SLICE_SIZE
from gliogate.files import replacing
from training.data.dataset import Dataset
from training.errors import DataError

logger = logging.getLogger(__name__)

T = TypeVar("T")

CASE_NAME = re.compile(r"(?P<patient>[^_]+_[^_]+_[^_]+)_\d+")
FILE_NAME = re.compile(rf"(?P<case>{CASE_NAME.pattern})_(?P<number>\d+)(?P<mask>_mask)?\.tiff?", re.IGNORECASE)

TUMOR_ABOVE = 127
"""Values in a mask's file that are tumor; the set has 0 and 255."""

THREADS = 8
"""How many read at once; OpenCV decodes without holding the interpreter."""

_PIXELS = np.dtype(
    [("image", np.uint8, (SLICE_SIZE, SLICE_SIZE, len(CHANNELS))), ("mask", np.uint8, (SLICE_SIZE, SLICE_SIZE))]
)
"""A slice as it is kept in memory and in the cache."""


@dataclass(frozen=True)
class SliceFiles:
    """Where one slice is.

    Attributes:
        patient: the first three words of the folder's name.
        case: the folder's name.
        number: the place on the axis.
        image: the file of the slice.
        mask: the file of its mask.
    """

    patient: str
    case: str
    number: int
    image: Path
    mask: Path


@dataclass(frozen=True)
class Trouble:
    """Why a file cannot be used; as a string, one line that names it.

    Attributes:
        kind: for counting.
        path: the file, or the folder.
        what: what was found and what was expected.
    """

    kind: Literal[
        "missing_mask", "missing_image", "wrong_name", "named_twice", "no_slices",
        "unreadable", "wrong_shape", "wrong_type", "wrong_values",
    ]  # fmt: skip
    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True)
class PatientTable:
    """What `data_mask.csv` says of the patients.

    Attributes:
        path: the file.
        image_paths: of each row.
        wrong: `image_path` and `patient_id` of the rows in which the two disagree.
    """

    path: Path
    image_paths: list[str]
    wrong: list[tuple[str, str]]

    @property
    def rows(self) -> int:
        """How many it has."""
        return len(self.image_paths)

    def __str__(self) -> str:
        return (
            f"{self.path.name}: patient_id disagrees with the folder of image_path in {len(self.wrong)} of {self.rows} "
            "rows; patients are taken from the folders"
        )


def read_kaggle(root: Path, *, cache: Path | None = None) -> Dataset:
    """Reads every slice with its mask.

    The patient is the first three words of the folder's name. `data_mask.csv` names another patient in nearly every
    row, so its `patient_id` is not used; where it disagrees with the folder, that is logged.

    Args:
        root: the folder that holds the folders of the cases.
        cache: a folder that keeps the decoded slices, about 260 kB each, to be mapped into memory the next time. They
            are decoded anew once any file of the dataset has another path, size or time. A cache that cannot be
            written costs a warning.

    Raises:
        DataError: no slice is there; a slice has no mask or a mask no slice; a file is not named as the layout has it,
            cannot be read, or has another shape or type. The message names the first and counts the others.
    """
    slices, troubles = find_slices(root)
    table = read_patient_table(root)
    if table and table.wrong:
        logger.warning("%s: %s", root, table)
    pixels = _read_all(slices, troubles) if troubles or not cache else _through_cache(cache, root, slices)
    return Dataset(
        patients=np.array([files.patient for files in slices]),
        names=np.array([files.image.stem for files in slices]),
        images=pixels["image"],
        masks=pixels["mask"],
    )


def find_slices(root: Path) -> tuple[list[SliceFiles], list[Trouble]]:
    """Finds the slices, in the order of patient and axis, and the files that are none. Nothing is read yet.

    Raises:
        DataError: there is no such folder, or nothing in it looks like the layout.
    """
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root}: {error.strerror}; expected the folder of the Kaggle download, unpacked") from None
    images: dict[tuple[str, str, int], Path] = {}
    masks: dict[tuple[str, str, int], Path] = {}
    troubles = []
    for folder in folders:
        try:
            paths = _tiff_files(folder)
        except OSError as error:
            troubles.append(Trouble("unreadable", folder, f"cannot be read ({error.strerror})"))
            continue
        if not paths and CASE_NAME.fullmatch(folder.name):
            troubles.append(Trouble("no_slices", folder, "no slice in this folder"))
        for path in paths:
            match = FILE_NAME.fullmatch(path.name)
            if not match or match["case"] != folder.name:
                expected = f"{folder.name}_<n>.tif or {folder.name}_<n>_mask.tif"
                troubles.append(Trouble("wrong_name", path, f"name not known, expected {expected}"))
                continue
            key = match["patient"], match["case"], int(match["number"])
            first = (masks if match["mask"] else images).setdefault(key, path)
            if first != path:
                troubles.append(Trouble("named_twice", path, f"names the same as {first.name}, expected one of them"))
    slices = []
    for key in sorted(images | masks):
        if key not in masks:
            path = images[key]
            missing = path.with_name(f"{path.stem}_mask{path.suffix}")
            troubles.append(Trouble("missing_mask", missing, f"the mask of {path.name} is missing"))
        elif key not in images:
            troubles.append(Trouble("missing_image", masks[key], "the slice of this mask is missing"))
        else:
            slices.append(SliceFiles(*key, images[key], masks[key]))
    if not slices and not troubles:
        raise DataError(f"{root}: no <case>/<case>_<n>.tif here; {_where_instead(root)}")
    return slices, troubles


def read_slice(files: SliceFiles) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | list[Trouble]:
    """Reads one slice.

    Returns:
        The slice, uint8 (256, 256, 3), and its mask as it is stored, uint8 (256, 256); or what is wrong with the two.
    """
    image = _read_tiff(files.image, (SLICE_SIZE, SLICE_SIZE, len(CHANNELS)))
    mask = _read_tiff(files.mask, (SLICE_SIZE, SLICE_SIZE))
    if isinstance(mask, np.ndarray) and 0 < mask.max() <= TUMOR_ABOVE:
        mask = Trouble("wrong_values", files.mask, f"a mask of values up to {mask.max()}, expected 0 and 255")
    if isinstance(image, Trouble) or isinstance(mask, Trouble):
        return [trouble for trouble in (image, mask) if isinstance(trouble, Trouble)]
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), mask


def for_each(slices: Sequence[SliceFiles], do: Callable[[SliceFiles], T], description: str) -> Iterator[T]:
    """What `do` makes of each slice, in their order; several at once, with a progress bar on a terminal's stderr."""
    console = Console(stderr=True)
    bar: dict[str, Any] = {"console": console, "disable": not console.is_terminal, "transient": True}
    with ThreadPoolExecutor(THREADS) as pool:
        yield from track(pool.map(do, slices), description, total=len(slices), **bar)


def read_patient_table(root: Path) -> PatientTable | None:
    """Reads `data_mask.csv`; None where there is none, or none with an `image_path` and a `patient_id`."""
    path = root / "data_mask.csv"
    if not path.exists():
        return None
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = [(row["image_path"] or "", row["patient_id"] or "") for row in csv.DictReader(file)]
    except (OSError, KeyError, csv.Error) as error:
        logger.warning("%s: left alone, no table with image_path and patient_id (%s)", path, error)
        return None
    wrong = [row for row in rows if PurePosixPath(row[0]).parent.name != row[1]]
    return PatientTable(path, [image_path for image_path, _ in rows], wrong)


def _tiff_files(folder: Path) -> list[Path]:
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in paths if path.suffix.lower() in (".tif", ".tiff"))


def _where_instead(root: Path) -> str:
    """What to say of a folder without slices: where they are, if that is seen at a glance."""
    matches = (FILE_NAME.fullmatch(path.name) for path in _tiff_files(root))
    if any(match and match["case"] == root.resolve().name for match in matches):
        return f"this is the folder of one case, expected the one above, {root.resolve().parent}"
    if deeper := next(root.glob("*/*/*_mask.tif*"), None):
        return f"they are one level deeper, in {deeper.parent.parent}"
    return "expected the folders of the Kaggle download"


def _read_tiff(path: Path, expected: tuple[int, ...]) -> NDArray[np.uint8] | Trouble:
    """Pixels as they are stored, colors as blue, green, red."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Trouble("unreadable", path, f"cannot be read ({error.strerror})")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # the file is empty, or says that it is larger than a picture can be
        pixels = None
    if pixels is None:
        return Trouble("unreadable", path, "cannot be read as a picture")
    if pixels.shape != expected:
        return Trouble("wrong_shape", path, f"shape {pixels.shape}, expected {expected}")
    if pixels.dtype != np.uint8:
        return Trouble("wrong_type", path, f"values of type {pixels.dtype}, expected uint8")
    return pixels.astype(np.uint8, copy=False)


def _read_all(slices: Sequence[SliceFiles], troubles: Iterable[Trouble]) -> NDArray[np.void]:
    """The pixels of every slice, shape (N,), masks 0 or 1; a DataError if there was trouble or is."""
    troubles = list(troubles)
    pixels = np.empty(len(slices), _PIXELS)
    for row, read in enumerate(for_each(slices, read_slice, "Reading slices")):
        if isinstance(read, list):
            troubles += read
        else:
            pixels["image"][row], pixels["mask"][row] = read[0], read[1] > TUMOR_ABOVE
    if troubles:
        others = f"; {len(troubles) - 1} more in trouble, `python -m training explore` lists them all"
        raise DataError(f"{troubles[0]}{others if len(troubles) > 1 else ''}")
    return pixels


def _through_cache(cache: Path, root: Path, slices: Sequence[SliceFiles]) -> NDArray[np.void]:
    try:
        kept = _cache_file(cache, root, slices)
    except OSError:  # a file is gone since it was found: reading says which
        return _read_all(slices, [])
    pixels = _open_cache(kept, len(slices))
    if pixels is not None:
        return pixels
    pixels = _read_all(slices, [])
    try:
        _write_cache(kept, pixels)
    except OSError as error:
        logger.warning(
            "%s: the decoded slices cannot be kept here (%s); going on without", cache, error.strerror or error
        )
        return pixels
    # Mapped, so that this run takes no more memory than the next.
    mapped = _open_cache(kept, len(slices))
    return pixels if mapped is None else mapped


def _cache_file(cache: Path, root: Path, slices: Sequence[SliceFiles]) -> Path:
    """Its name says of which dataset the pixels are, and of which state of it."""
    state = hashlib.sha256()
    for files in slices:
        for path in (files.image, files.mask):
            found = path.stat()
            state.update(os.fsencode(f"{path.relative_to(root)}\0{found.st_size}\0{found.st_mtime_ns}\0"))
    dataset = hashlib.sha256(os.fsencode(root.resolve()))
    return cache / f"{dataset.hexdigest()[:12]}-{state.hexdigest()[:24]}.npy"


def _open_cache(kept: Path, count: int) -> NDArray[np.void] | None:
    try:
        pixels = np.lib.format.open_memmap(kept, mode="r")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s: damaged (%s), decoding anew", kept, error)
        return None
    return np.asarray(pixels) if pixels.dtype == _PIXELS and pixels.shape == (count,) else None


def _write_cache(kept: Path, pixels: NDArray[np.void]) -> None:
    """Takes the place of what was kept of earlier states of the dataset."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with (kept.parent / ".lock").open("w") as lock:
        # Runs that start together would otherwise write into one file.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in kept.parent.glob(f"{kept.name.partition('-')[0]}-*.npy"):
            stale.unlink()
        with replacing(kept) as partial, partial.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(pixels))
            # Not ndarray.tofile, which does not say why it stopped.
            file.write(pixels.view(np.uint8).data)
            os.fsync(file.fileno())
