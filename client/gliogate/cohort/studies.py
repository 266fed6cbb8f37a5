"""Which studies a folder holds, the largest first."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Final

from gliogate.errors import ImageError
from gliogate.images import EXTENSIONS as PICTURE_EXTENSIONS
from gliogate.scans import MASK_SUFFIX
from gliogate.volumes.formats import stem_of
from gliogate.volumes.nifti import is_nifti
from gliogate.volumes.reading import is_volume

_DICOM_EXTENSIONS: Final = (".dcm", ".dicom", ".ima")
_WHOLE_EXTENSIONS: Final = (".zip", ".npy", *_DICOM_EXTENSIONS)
"""With `.nii` and `.nii.gz`, of files that are studies even if they are broken: whoever put them there meant them."""

_WEIGHED: Final = 8
"""Files of a folder whose sizes are looked up; the others are taken to be like them."""


@dataclass(frozen=True)
class Study:
    """One study on disk.

    Attributes:
        name: relative to the folder of studies, extension included: no other study has it.
        path: what is read, a file or a folder.
        size: its bytes, about.
    """

    name: str
    path: Path
    size: int

    @property
    def stem(self) -> str:
        """What its files are called."""
        return stem_of(self.path)


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        studies: the largest first, so that none of them is begun when the others are done.
        left_out: names of files that can be no study.
    """

    studies: tuple[Study, ...]
    left_out: tuple[str, ...]


def find_studies(folder: Path, pattern: str) -> Found:
    """Finds the studies of a folder.

    A study is a folder, or a file that is a volume by its name or its content. Pictures and masks (`*_mask.*`) are none
    by themselves; neither is what is hidden, nor the `lost+found` of a file system.

    Args:
        folder: the studies'.
        pattern: which of its files and folders are studies: a glob, `*` or `*/*`, say; `**` is any number of folders.

    Raises:
        ValueError: the pattern is none, or leads out of the folder, or one study lies in another.
        ImageError: all that matches are the pictures, or the slices in DICOM, of one head.
        OSError: the folder cannot be read.
    """
    parts = pattern.split("/")
    if not all(parts) or ".." in parts:
        raise ValueError(f"{pattern!r} is no pattern of paths in a folder")
    with os.scandir(folder):  # One that cannot be read is no study itself.
        pass
    if parts[-1] == "**":
        parts.append("*")
    matches = list(dict.fromkeys(_match(folder, parts)))
    top = folder.resolve()
    taken = [path for path in matches if _may_be_study(path, top)]
    if not taken:
        _refuse_pictures(folder, matches)
    _refuse_slices(folder, taken)
    studies = [Study(os.fspath(path.relative_to(folder)), path, _size_of(path)) for path in taken]
    _refuse_nested(studies)
    left_out = tuple(os.fspath(path.relative_to(folder)) for path in sorted(set(matches) - set(taken)))
    return Found(tuple(sorted(studies, key=lambda study: (-study.size, study.name))), left_out)


def _match(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """What matches; a folder that should be looked into and cannot be is a match itself: reading it will tell why."""
    first, *rest = parts
    try:
        with os.scandir(folder) as entries:
            here = sorted(
                (each for each in entries if not each.name.startswith(".") and each.name != "lost+found"),
                key=lambda each: each.name,
            )
    except OSError:
        yield folder
        return
    if first == "**":
        yield from _match(folder, rest)
        for each in here:
            if _is_folder(each, follow=False):
                yield from _match(folder / each.name, parts)
        return
    for each in here:
        if fnmatchcase(each.name, first):
            if not rest:
                yield folder / each.name
            elif _is_folder(each, follow=True):
                yield from _match(folder / each.name, rest)


def _is_folder(entry: os.DirEntry[str], *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def _may_be_study(path: Path, top: Path) -> bool:
    """Whether a path is meant for a study."""
    try:
        if path.is_symlink():
            if top.is_relative_to(path.resolve(strict=True)):
                return False  # It leads back to all of them.
        elif not path.is_dir() and not path.is_file():
            return False  # From a pipe, one would wait forever.
        if path.is_dir():
            return True
    except (OSError, RuntimeError):
        return True  # A link that leads nowhere, or in a circle: reading it will tell.
    name = path.name.lower()
    if path.stem.removesuffix(".nii").endswith(MASK_SUFFIX):
        return False
    return is_nifti(path) or name.endswith(_WHOLE_EXTENSIONS) or is_volume(path)


def _refuse_pictures(folder: Path, matches: Sequence[Path]) -> None:
    if any(path.suffix.lower() in PICTURE_EXTENSIONS for path in matches):
        raise ImageError(
            f"{folder}: holds pictures: where they are one head, name the folder above, or take "
            "`gliogate analyze --volume`; otherwise `gliogate analyze`"
        )


def _refuse_slices(folder: Path, taken: Sequence[Path]) -> None:
    """Refuses files that are slices of one DICOM series: each for a study would be wrong, and look right."""
    others = (".zip", ".npy")
    may_be = (path for path in taken if path.is_file() and not is_nifti(path) and path.suffix.lower() not in others)
    files = list(islice(may_be, 2))
    if len(files) < 2 or files[0].parent != files[1].parent:
        return
    series = [_series_of(path) for path in files]
    if series[0] is not None and series[0] == series[1]:
        raise ImageError(
            f"{folder}: {files[0].name} and {files[1].name} are of one DICOM series, and a study is a folder of them: "
            "name the folder above, or `gliogate analyze`"
        )


def _series_of(path: Path) -> str | None:
    try:
        from pydicom import dcmread

        return str(dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)
    except Exception:  # Whatever it is, it is no DICOM that can be read.
        return None


def _refuse_nested(studies: Sequence[Study]) -> None:
    names = {study.name for study in studies}
    for name in sorted(names):
        for parent in list(Path(name).parents)[:-1]:
            if os.fspath(parent) in names:
                raise ValueError(f"{name} lies in {parent}, which is a study, too: expected a pattern of either")


def _size_of(path: Path) -> int:
    """Bytes of a file, and about those of a folder: few of its files are looked at: on a network that takes time."""
    try:
        if not path.is_dir():
            return path.stat().st_size
        count, sizes = 0, list[int]()
        for parent, _, names in os.walk(path):
            count += len(names)
            sizes += [os.stat(Path(parent, name)).st_size for name in names[: _WEIGHED - len(sizes)]]  # noqa: PTH116
        return round(sum(sizes) / len(sizes) * count) if sizes else 0
    except (OSError, RuntimeError):
        return 0
