"""Reading a volume, whatever it is kept in."""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Final
from zipfile import is_zipfile

import numpy as np
from numpy.typing import NDArray

from gliogate.errors import ImageError
from gliogate.images import EXTENSIONS as PICTURE_EXTENSIONS
from gliogate.scans import MASK_SUFFIX, files_below
from gliogate.volumes.arrays import is_of_slices, map_npy, of_array, read_npy, read_pictures
from gliogate.volumes.dicom import Choice, read_dicom, read_dicom_series
from gliogate.volumes.dicom_file import is_dicom
from gliogate.volumes.entries import entry_of, open_entries
from gliogate.volumes.limits import naming
from gliogate.volumes.nifti import is_nifti, read_nifti
from gliogate.volumes.sequences import SEQUENCES, Kind, Sequence3, pick, recognise
from gliogate.volumes.volume import Series, Volume, combine

Source = str | os.PathLike[str]
VolumeSource = Source | NDArray[Any] | Mapping[Sequence3, Source]
"""What `read_volume` reads."""

_ASK: Final = "say which is which: {'flair': ..., 'pre': ..., 'post': ...}"
_EXPECTED: Final = (
    "expected DICOM (a file, a folder or a zip), NIfTI (.nii, .nii.gz), a folder of numbered pictures or a .npy file"
)


def read_volume(source: VolumeSource, *, series: Choice | None = None, window: bool = False) -> Volume:
    """Reads the slices of a head.

    A source with one sequence is taken for FLAIR, which then stands in for the others, as the networks were trained;
    unless it calls itself T1, or a mask, a map or a localizer. Where it does not call itself FLAIR, a note says so.

    Args:
        source: one of

            - a DICOM file, a folder of DICOM files or a zip of them, with one series or several;
            - a NIfTI file (`.nii`, `.nii.gz`), or a folder with one for each sequence (`*_flair`, `*_t1`, `*_t1ce`, …),
              without its masks (`*_mask`);
            - a folder of numbered pictures, as the Kaggle set has them, without its masks (`*_mask.*`);
            - a `.npy` file or an array, (N, H, W) or (N, H, W, 3), of integers or floats;
            - a mapping from `pre`, `flair` and `post` to DICOM or NIfTI of one head; FLAIR has to be there.
        series: which series of a DICOM source to read, by SeriesInstanceUID, SeriesNumber or SeriesDescription; or a
            mapping from `pre`, `flair` and `post` to that. Without it, series are recognised by what they say of
            themselves.
        window: scale each DICOM sequence by the window that its files ask to be shown in (WindowCenter, WindowWidth; in
            the middle of its slices' where they differ), not by its own range, as the networks were trained.

    Returns:
        The volume; its `notes` say what stands in, what is not known and what was left out.

    Raises:
        ImageError: the source cannot be read, is too large (`gliogate.volumes.limits`), does not say which of its
            series to read, or mixes patients, or geometries within a series.
        MissingExtraError: the extra that reads it is not installed.
    """
    if isinstance(source, np.ndarray):
        _check_no_window("the array", window=window)
        return of_array(source)
    if isinstance(source, Mapping):
        return _read_mapping(source, series, window=window)
    if not isinstance(source, str | os.PathLike):
        raise ImageError(f"a volume is read from a path, an array or a mapping, not {type(source).__name__}")
    path = Path(source)
    _check_exists(path)
    if _is_dicom(path):
        return read_dicom(path, _checked(series), window=window)
    if series is not None:
        raise ImageError(f"{path}: series chooses among those of a DICOM source, which this is not")
    _check_no_window(path, window=window)
    if path.is_dir():
        return _read_folder(path)
    if is_nifti(path):
        return _read_niftis({path: recognise(path.name)}, where=path)
    if path.suffix.lower() == ".npy":
        return read_npy(path)
    hint = ": a volume is a folder of such" if path.suffix.lower() in PICTURE_EXTENSIONS else ""
    raise ImageError(f"{path}: is no volume{hint}; {_EXPECTED}")


def is_volume(path: Path) -> bool:
    """Whether a path holds a volume for certain: DICOM, NIfTI, a zip, or a `.npy` file of slices.

    A folder of pictures may be a volume or not: for it, as for what cannot be read, the answer is no.
    """
    try:
        if path.is_dir():
            return any(_is_dicom_file(file) or (is_nifti(file) and file.parent == path) for file in files_below(path))
        if path.suffix.lower() == ".npy":
            return is_of_slices(map_npy(path).shape)
        return is_nifti(path) or _is_dicom_file(path) or (path.suffix.lower() != ".npz" and is_zipfile(path))
    except (ImageError, OSError):
        return False


def _is_dicom_file(file: Path) -> bool:
    return file.suffix.lower() not in PICTURE_EXTENSIONS and is_dicom(entry_of(file))


def _check_no_window(source: object, *, window: bool) -> None:
    if window:
        raise ImageError(f"{source}: window is what a DICOM source asks for, which this is not")


def _check_exists(path: Path) -> None:
    with naming(str(path)):
        path.stat()
        if not path.is_dir() and not path.is_file():  # From a pipe, one would wait forever.
            raise ImageError(f"{path}: is no file and no folder; {_EXPECTED}")


def _is_dicom(path: Path) -> bool:
    if is_nifti(path):
        return False
    with open_entries(path) as entries:
        return any(is_dicom(entry) for entry in entries)


def _checked(series: Choice | None) -> Choice | None:
    if series is None or isinstance(series, str):
        return series
    if not isinstance(series, Mapping):
        expected = "a UID, number or description as text, or a mapping from sequences to such"
        raise ImageError(f"series is {series!r}, of type {type(series).__name__}, expected {expected}")
    _check_keys(series)
    return series


def _check_keys(mapping: Mapping[Any, Any]) -> None:
    if unknown := [key for key in mapping if key not in SEQUENCES]:
        raise ImageError(f"{unknown[0]!r} is no sequence, expected {', '.join(SEQUENCES)}")


def _read_mapping(sources: Mapping[Sequence3, Source], series: Choice | None, *, window: bool) -> Volume:
    _check_keys(sources)
    if isinstance(series, str):
        raise ImageError(
            "series is one name, but there are several sources: expected a mapping from sequences to names"
        )
    chosen = _checked(series) or {}
    assert not isinstance(chosen, str)  # noqa: S101  told the user above
    return combine(
        {kind: _read_series(Path(source), chosen.get(kind), window=window) for kind, source in sources.items()}
    )


def _read_series(path: Path, choice: str | None, *, window: bool) -> Series:
    _check_exists(path)
    if is_nifti(path):
        _check_no_window(path, window=window)
        return read_nifti(path)
    if _is_dicom(path):
        return read_dicom_series(path, choice, window=window)
    raise ImageError(f"{path}: is no sequence, expected DICOM (a file, a folder or a zip) or NIfTI (.nii, .nii.gz)")


def _read_folder(folder: Path) -> Volume:
    """Reads a folder that holds no DICOM: NIfTI files by their names, or else pictures."""
    files = sorted(path for path in files_below(folder) if path.parent == folder and is_nifti(path))
    if not files:
        return read_pictures(folder)
    # Without any but masks, reading them will tell.
    scans = [path for path in files if not _stem(path).endswith(MASK_SUFFIX)] or files
    # What all names begin with is the patient's, not the sequence's; of one that has no more, it has to do.
    words = [re.split(r"[_\-. ]", _stem(path)) for path in scans]
    shared = len(list(takewhile(lambda same: len(set(same)) == 1, zip(*words, strict=False)))) if len(scans) > 1 else 0
    kinds = {path: recognise(" ".join(own[shared:] or own)) for path, own in zip(scans, words, strict=True)}
    volume = _read_niftis(kinds, where=folder)
    ignored = [path.name for path in files if path not in volume.source]
    notes = (*volume.notes, *([f"{folder}: left out {', '.join(ignored)}"] if ignored else []))
    return replace(volume, notes=notes)


def _read_niftis(kinds: Mapping[Path, Kind], *, where: Path) -> Volume:
    picked = pick(kinds, where=str(where), ask=_ASK)
    volume = combine({kind: read_nifti(file) for kind, file in picked.sequences.items()})
    return replace(volume, notes=(*volume.notes, *picked.notes))


def _stem(nifti: Path) -> str:
    """A file's name in small letters, without its extensions."""
    return re.sub(r"\.nii(\.gz)?$", "", nifti.name.lower())
