"""The files that `gliogate analyze` writes, by the names of `--format`."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gliogate.cli.options import UsageError
from gliogate.errors import GliogateError, ImageError
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


@dataclass(frozen=True)
class Written:
    """What became of the files of one input; one that cannot be written costs only itself.

    Attributes:
        files: those that are there, by format.
        notes: what should be known of them.
        errors: why others are not there.
    """

    files: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def error(self) -> str | None:
        """All errors, each once; None where there is none."""
        return "; ".join(dict.fromkeys(self.errors)) or None

    @contextmanager
    def keep_error(self) -> Iterator[None]:
        """Keeps what goes wrong with one file among the errors."""
        try:
            yield
        except GliogateError as error:
            self.errors.append(str(error))
        except OSError as error:
            name = error.filename2 or error.filename  # The second is what a draft was to become.
            self.errors.append(f"{name}: {error.strerror}" if name else str(error))


def write_picture(analysis: Analysis, name: Path, folder: Path, formats: Formats) -> Written:
    """Writes a picture's files."""
    written = Written()
    for each, write in OF_PICTURES.items():
        if formats is None or each in formats:
            with written.keep_error():
                written.files[each] = write(analysis, name, folder)
    return written


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


def write_volume(
    analysis: VolumeAnalysis, name: Path, folder: Path, formats: Sequence[str], *, are_usual: bool
) -> Written:
    """Writes a volume's files.

    There is no DICOM segmentation of nothing. Where the source lacks what one needs, and the formats are the usual
    ones, NIfTI takes its place.
    """
    written = Written()

    def write(each: str) -> None:
        ending, save = OF_VOLUMES[each]
        path = Path(f"{folder / name}{ending}")
        path.parent.mkdir(parents=True, exist_ok=True)
        save(analysis, path)
        written.files[each] = path

    # The segmentation comes last: it takes the longest, and asks the most of the source.
    for each in sorted(formats, key=lambda each: each == "dicom-seg"):
        if each == "dicom-seg" and not analysis.mask.any():
            continue
        with written.keep_error():
            try:
                write(each)
            except ImageError as error:
                if each != "dicom-seg" or not are_usual:
                    raise
                written.notes.append(f"the mask is written as NIfTI, since {error}")
                write("nifti")
    return written
