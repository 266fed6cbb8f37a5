"""The files that are written of a volume, by the names of `gliogate analyze --format`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gliogate.errors import GliogateError, ImageError
from gliogate.volumes.analysis import VolumeAnalysis
from gliogate.volumes.dicom import DicomOrigin
from gliogate.volumes.extras import require
from gliogate.volumes.nifti import EXTENSIONS as NIFTI_EXTENSIONS
from gliogate.volumes.volume import Volume

OF_VOLUMES: Final[Mapping[str, tuple[str, Callable[[VolumeAnalysis, Path], None]]]] = {
    "nifti": ("_mask.nii.gz", VolumeAnalysis.save_nifti),
    "dicom-seg": ("_seg.dcm", VolumeAnalysis.save_dicom_seg),
    "overlays": ("_overlays", VolumeAnalysis.save_overlays),
    "montage": ("_montage.png", VolumeAnalysis.save_montage),
    "csv": ("_slices.csv", VolumeAnalysis.save_csv),
    "json": (".json", VolumeAnalysis.save_json),
}
"""What each file's name ends in, and how it is written."""

_LIBRARIES: Final = {"nifti": ("nibabel", "nifti"), "dicom-seg": ("highdicom", "dicom")}
"""The library that a format needs, and the extra that brings it."""

Formats = tuple[str, ...] | None
"""Those that were named; None for those that suit the input."""


@dataclass(frozen=True)
class Written:
    """What became of the files of one input; one that cannot be written costs only itself.

    Attributes:
        files: those that are there, by format.
        notes: what should be known of them.
        errors: why others are not there.
        refusals: those of the errors that are the system's: a disk that is full, say.
    """

    files: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refusals: list[OSError] = field(default_factory=list)

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
            self.refusals.append(error)
            name = error.filename2 or error.filename  # The second is what a draft was to become.
            self.errors.append(f"{name}: {error.strerror}" if name else str(error))


def of_volume(
    volume: Volume, formats: Formats, *, beside_mask: Sequence[str] = ("montage", "csv", "json")
) -> Sequence[str]:
    """The formats to write a volume in.

    Args:
        volume: the volume.
        formats: those that were named.
        beside_mask: those that are usual beside the mask's own.

    Raises:
        ImageError: DICOM is asked for, and the volume is not of DICOM.
        MissingExtraError: the library that writes one is not installed.
    """
    is_dicom = isinstance(volume.origin, DicomOrigin)
    if formats is None:
        usual = ("dicom-seg" if is_dicom else "nifti", *beside_mask)
        require_libraries(usual)
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


def require_libraries(formats: Sequence[str]) -> None:
    """Imports what writes some formats.

    Raises:
        MissingExtraError: a library is not installed.
    """
    for name in formats:
        if name in _LIBRARIES:
            module, extra = _LIBRARIES[name]
            require(module, extra=extra)


def stem_of(path: Path) -> str:
    """What a volume is called by itself: a folder's name, a file's without its extension."""
    if path.is_dir():
        return path.name
    ending = next((each for each in reversed(NIFTI_EXTENSIONS) if path.name.lower().endswith(each)), path.suffix)
    return path.name[: -len(ending)] or path.name if ending else path.name
