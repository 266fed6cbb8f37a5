"""Surveys a dataset slice by slice, in little memory."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gliogate.contract import CHANNELS
from training.data.kaggle import (
    FILE_NAME,
    TUMOR_ABOVE,
    SliceFiles,
    Trouble,
    find_slices,
    for_each,
    read_patient_table,
    read_slice,
)

FLAIR = CHANNELS.index("FLAIR")

COPY_BELOW = 1.0
"""Mean difference from FLAIR, in grey levels, below which a channel of a patient is its copy. It is 0 in the set as it
was published, up to 0.6 where that was packed with loss, and above 3 between two sequences."""

AIR = 10
"""Values up to this are mostly air. Where they are not, the darkest twentieth of a slice, which is air, is brighter."""

SAMPLES = 24
"""Slices that stand for the dataset."""

TIFFS = frozenset({".tif", ".tiff"})
PICTURES = TIFFS | {".bmp", ".dcm", ".gif", ".jpeg", ".jpg", ".npy", ".png", ".webp"}
"""Suffixes of files that someone may have meant to be slices."""


@dataclass(frozen=True)
class Surveyed:
    """What is kept of one slice.

    Attributes:
        files: where it is.
        digest: equal for equal slices; their masks do not matter.
        blank: whether all its pixels are equal.
        from_flair: mean difference of each channel from FLAIR, in grey levels.
        darkest: value of each channel that a twentieth of its pixels do not exceed.
        tumor_px: pixels of the mask.
        other_px: pixels in the mask's file that are neither 0 nor 255.
        counts: how many pixels have a value, outside and inside of the mask; shape (2, 3 channels, 256 values).
    """

    files: SliceFiles
    digest: bytes
    blank: bool
    from_flair: tuple[float, ...]
    darkest: tuple[int, ...]
    tumor_px: int
    other_px: int
    counts: NDArray[np.int32]


def survey(root: Path) -> dict[str, Any]:
    """Surveys a dataset.

    Returns:
        What was found, as JSON knows it. Files are named from the root. `patients`, `slices` and all that is measured
        are of the slices that can be read and have a mask; `troubles` are the others, which training refuses.

    Raises:
        DataError: there is no such folder, or nothing in it looks like the Kaggle layout.
    """
    slices, troubles = find_slices(root)
    surveyed = []
    counts = np.zeros((2, len(CHANNELS), 256), np.int64)
    for answer in for_each(slices, survey_slice, "Surveying slices"):
        if isinstance(answer, list):
            troubles += answer
        else:
            counts += answer.counts
            surveyed.append(answer)
    by_patient = _grouped((one.files.patient, one) for one in surveyed)
    masks = [one.tumor_px for one in surveyed if one.tumor_px]

    def name(path: Path) -> str:
        return path.relative_to(root).as_posix()

    return {
        "data": str(root.resolve()),
        "patients": len(by_patient),
        "slices": len(surveyed),
        "tumor_slices": len(masks),
        "troubles": [{"kind": trouble.kind, "file": name(trouble.path), "what": trouble.what} for trouble in troubles],
        "duplicates": [
            {
                "patients": sorted({one.files.patient for one in group}),
                "files": [name(one.files.image) for one in group],
            }
            for group in _grouped((one.digest, one) for one in surveyed if not one.blank).values()
            if len(group) > 1
        ],
        "copies_of_flair": [
            {"patient": patient, "channel": CHANNELS[channel], "mean_difference": round(difference, 3)}
            for patient, group in by_patient.items()
            for channel, difference in enumerate(_mean_of_channels(one.from_flair for one in group if not one.blank))
            if channel != FLAIR and difference < COPY_BELOW
        ],
        "grey_backgrounds": [
            {"patient": patient, "channel": CHANNELS[channel], "level": round(level, 1)}
            for patient, group in by_patient.items()
            for channel, level in enumerate(_mean_of_channels(one.darkest for one in group if not one.blank))
            if level > AIR
        ],
        "blank_slices": [name(one.files.image) for one in surveyed if one.blank],
        "masks_of_other_values": [
            {"file": name(one.files.mask), "pixels": one.other_px} for one in surveyed if one.other_px
        ],
        "unread_pictures": [name(path) for path in _unread_pictures(root)],
        "gaps": _gaps(slices, troubles),
        "patient_table": _patient_table(root),
        "slices_per_patient": _spread([len(group) for group in by_patient.values()]),
        "mask_size_px": _spread(masks),
        "intensity": [_intensity(channel, *counts[:, index]) for index, channel in enumerate(CHANNELS) if surveyed],
        "cases": [_case(patient, group) for patient, group in by_patient.items()],
        "samples": [name(one.files.image) for one in _samples(list(by_patient.values()))],
    }


def survey_slice(files: SliceFiles) -> Surveyed | list[Trouble]:
    """Measures one slice, or says what is wrong with its files."""
    read = read_slice(files)
    if isinstance(read, list):
        return read
    image, values = read
    mask = (values > TUMOR_ABOVE).astype(np.uint8)
    planes = cv2.split(image)
    counts = np.array(
        [[cv2.calcHist([plane], [0], where, [256], [0, 256])[:, 0] for plane in planes] for where in (1 - mask, mask)]
    )
    return Surveyed(
        files=files,
        digest=blake2b(image.tobytes(), digest_size=16).digest(),
        blank=bool(image.min() == image.max()),
        from_flair=tuple(cv2.norm(plane, planes[FLAIR], cv2.NORM_L1) / plane.size for plane in planes),
        darkest=tuple(_value_at(0.05, each) for each in counts.sum(axis=0)),
        tumor_px=int(np.count_nonzero(mask)),
        other_px=int(np.count_nonzero((values != 0) & (values != 255))),
        counts=counts.astype(np.int32),
    )


def _grouped(pairs: Iterable[tuple[Any, Surveyed]]) -> dict[Any, list[Surveyed]]:
    groups = defaultdict(list)
    for key, one in pairs:
        groups[key].append(one)
    return groups


def _mean_of_channels(values: Iterable[tuple[float, ...]]) -> list[float]:
    """The mean of each channel over slices; nothing of no slice."""
    table = np.array(list(values))
    return [float(mean) for mean in table.mean(axis=0)] if len(table) else []


def _gaps(slices: Sequence[SliceFiles], troubles: Sequence[Trouble]) -> list[dict[str, Any]]:
    """First and last of the numbers from 1 that no file of a case has; a file in trouble is there all the same."""
    numbers = defaultdict(set)
    for files in slices:
        numbers[files.case].add(files.number)
    for trouble in troubles:
        if match := FILE_NAME.fullmatch(trouble.path.name):
            numbers[match["case"]].add(int(match["number"]))
    return [
        {"case": case, "first_missing": below + 1, "last_missing": above - 1}
        for case, found in sorted(numbers.items())
        for below, above in pairwise([0, *sorted(found)])
        if above - below > 1
    ]


def _patient_table(root: Path) -> dict[str, Any] | None:
    table = read_patient_table(root)
    if table is None:
        return None
    said = defaultdict(set)
    for image_path, patient_id in table.wrong:
        said[_case_of(image_path)].add(patient_id)
    folders = {path.name for path in root.iterdir() if path.is_dir()}
    absent = Counter(case for case in map(_case_of, table.image_paths) if case not in folders)
    return {
        "rows": table.rows,
        "wrong_rows": len(table.wrong),
        "wrong_cases": [{"case": case, "patient_ids": sorted(ids)} for case, ids in sorted(said.items())],
        "absent_cases": [{"case": case, "rows": rows} for case, rows in sorted(absent.items())],
    }


def _case_of(image_path: str) -> str:
    return PurePosixPath(image_path).parent.name


def _unread_pictures(root: Path) -> list[Path]:
    """Pictures that are passed by, since they are not where slices are, or not of their format."""
    found = (path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in PICTURES)
    return sorted(
        root / path
        for path in found
        if not any(part.startswith(".") for part in path.parts)
        # A TIFF in a folder of the root is a slice, a mask or in trouble.
        and not (len(path.parts) == 2 and path.suffix.lower() in TIFFS)
    )


def _spread(values: Sequence[int]) -> dict[str, float] | None:
    """Of whole numbers; None of none."""
    if not values:
        return None
    names = ("minimum", "lower_quartile", "median", "upper_quartile", "maximum")
    return dict(zip(names, np.percentile(values, (0, 25, 50, 75, 100)).tolist(), strict=True))


def _intensity(channel: str, outside: NDArray[np.int64], inside: NDArray[np.int64]) -> dict[str, Any]:
    """The figures are of all pixels, air included."""
    counts, values = outside + inside, np.arange(256)
    total = int(counts.sum())
    mean = float((counts * values).sum() / total)
    seen = np.flatnonzero(counts)
    return {
        "channel": channel,
        "mean": round(mean, 2),
        "deviation": round(float(np.sqrt((counts * (values - mean) ** 2).sum() / total)), 2),
        "minimum": int(seen[0]),
        "percentile_5": _value_at(0.05, counts),
        "median": _value_at(0.5, counts),
        "percentile_95": _value_at(0.95, counts),
        "maximum": int(seen[-1]),
        "counts_outside_masks": outside.tolist(),
        "counts_inside_masks": inside.tolist(),
    }


def _value_at(share: float, counts: NDArray[Any]) -> int:
    """The smallest value that this share of the pixels does not exceed."""
    return int(np.searchsorted(counts.cumsum(), share * counts.sum()))


def _case(patient: str, group: Sequence[Surveyed]) -> dict[str, Any]:
    tumor = [one.tumor_px for one in group if one.tumor_px]
    return {
        "patient": patient,
        "slices": len(group),
        "tumor_slices": len(tumor),
        "tumor_slice_share": round(len(tumor) / len(group), 4),
        "mask_sizes_px": tumor,
    }


def _samples(groups: Sequence[Sequence[Surveyed]]) -> list[Surveyed]:
    """Of patients evenly from the smallest tumor to the largest: the slice of the largest mask, or the middle one."""
    groups = sorted(groups, key=lambda group: sum(one.tumor_px for one in group))
    chosen = np.linspace(0, len(groups) - 1, min(SAMPLES, len(groups))).round().astype(int)
    middle = [group[len(group) // 2] for group in groups]
    return [max([middle[index], *groups[index]], key=lambda one: one.tumor_px) for index in chosen]
