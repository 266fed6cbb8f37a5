"""The files that `gliogate analyze` writes, by the names of `--format`."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from gliogate.cli.options import UsageError
from gliogate.errors import ImageError
from gliogate.results import Analysis
from gliogate.runs import write_mask, write_overlay
from gliogate.volumes import Volume, VolumeAnalysis
from gliogate.volumes.dicom import DicomOrigin
from gliogate.volumes.extras import require

OF_PICTURES: Final[Mapping[str, Callable[[Analysis, Path, Path], Path]]] = {
    "mask": write_mask,
    "overlays": write_overlay,
}
"""Each writes what was found in a picture, under a name, into a folder, and returns the file."""

OF_VOLUMES: Final[Mapping[str, tuple[str, Callable[[VolumeAnalysis, Path], None]]]] = {
    "nifti": ("_mask.nii.gz", VolumeAnalysis.save_nifti),
    "dicom-seg": ("_seg.dcm", VolumeAnalysis.save_dicom_seg),
    "overlays": ("_overlays", VolumeAnalysis.save_overlays),
    "montage": ("_montage.png", VolumeAnalysis.save_montage),
    "csv": ("_slices.csv", VolumeAnalysis.save_csv),
    "json": (".json", VolumeAnalysis.save_json),
}
"""What each file's name ends in, and how it is written."""

ALL: Final = tuple(dict.fromkeys((*OF_PICTURES, *OF_VOLUMES)))

_LIBRARIES: Final = {"nifti": ("nibabel", "nifti"), "dicom-seg": ("highdicom", "dicom")}
"""The library that a format needs, and the extra that brings it."""

Formats = tuple[str, ...] | None
"""Those that were named; None for those that suit the input."""


def parse(text: str) -> tuple[str, ...]:
    """Formats with commas between them."""
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in ALL]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no format, expected of {', '.join(ALL)}")
    return names


def check(formats: Formats, *, pictures: bool, volumes: bool) -> None:
    """Refuses formats that no input can have.

    Raises:
        UsageError: one of them is for inputs that there are none of.
        MissingExtraError: the library that writes one is not installed.
    """
    possible = {*(OF_PICTURES if pictures else ()), *(OF_VOLUMES if volumes else ())}
    for name in formats or ():
        if name not in possible:
            kind = "volumes" if name in OF_VOLUMES else "pictures"
            raise UsageError(f"--format {name} is for {kind}, and there are none among the paths")
    _require(formats or ())


def _require(formats: Sequence[str]) -> None:
    for name in formats:
        if name in _LIBRARIES:
            module, extra = _LIBRARIES[name]
            require(module, extra=extra)


def write_picture(analysis: Analysis, name: Path, folder: Path, formats: Formats) -> dict[str, Path]:
    """Writes a picture's files; returns them by format."""
    return {
        each: write(analysis, name, folder) for each, write in OF_PICTURES.items() if formats is None or each in formats
    }


def of_volume(volume: Volume, formats: Formats) -> Sequence[str]:
    """The formats to write a volume in.

    Raises:
        ImageError: DICOM is asked for, and the volume is not of DICOM.
        MissingExtraError: the library that writes one is not installed.
    """
    is_dicom = isinstance(volume.origin, DicomOrigin)
    if formats is None:
        usual = ("dicom-seg" if is_dicom else "nifti", "montage", "csv", "json")
        _require(usual)
        return usual
    if "dicom-seg" in formats and not is_dicom:
        named = volume.source[0] if volume.source else "the volume"
        raise ImageError(f"{named}: is not DICOM, to whose instances a DICOM segmentation has to refer")
    return [name for name in formats if name in OF_VOLUMES]


def write_volume(analysis: VolumeAnalysis, name: Path, folder: Path, formats: Sequence[str]) -> dict[str, Path]:
    """Writes a volume's files; returns them by format. There is no DICOM segmentation of nothing."""
    written = {}
    for each in formats:
        if each == "dicom-seg" and not analysis.mask.any():
            continue
        ending, write = OF_VOLUMES[each]
        path = Path(f"{folder / name}{ending}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write(analysis, path)
        written[each] = path
    return written
