"""Scans on disk: which files of a folder are scans, in which order, and what belongs to each."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from gliogate.errors import ImageError
from gliogate.images import EXTENSIONS, load_picture

MASK_SUFFIX: Final = "_mask"
OVERLAY_SUFFIX: Final = "_overlay"
"""What the stems of masks and overlays end in: such files belong to a scan and are none themselves."""


@dataclass(frozen=True)
class Scan:
    """One scan on disk.

    Attributes:
        path: the file.
        name: a path without extension, relative, that no other scan of the same search has. It mirrors the folders
            below the one that all scans of the search have in common.
    """

    path: Path
    name: Path

    def read_known_mask(self) -> NDArray[np.uint8] | None:
        """Reads the mask that lies beside the scan as `<stem>_mask.*`.

        Returns:
            uint8 (H, W), 1 where a pixel is brighter than half the mask's maximum; None where there is no such file.

        Raises:
            ImageError: the mask cannot be read.
        """
        for extension in (self.path.suffix, *EXTENSIONS):
            path = self.path.with_name(self.path.stem + MASK_SUFFIX + extension)
            if path.is_file():
                grey = load_picture(path)[..., 0]
                mask: NDArray[np.uint8] = (grey > grey.max() // 2).astype(np.uint8)
                return mask
        return None


def find_scans(paths: Iterable[str | os.PathLike[str]]) -> list[Scan]:
    """Finds the scans among files and, recursively, in folders.

    A folder's scans are its pictures (.bmp .jpeg .jpg .npy .png .tif .tiff), in natural order (`_2` before `_10`).
    Files that are named themselves are taken whatever their extension, and need not exist: reading them will tell.
    Masks (`*_mask.*`), overlays (`*_overlay.*`) and hidden files are no scans. A file that is named twice counts once.

    Args:
        paths: files and folders.

    Raises:
        ImageError: a folder holds no scans or cannot be read, or `paths` hold none at all.
        TypeError: `paths` is a single one.
    """
    if isinstance(paths, str | os.PathLike):
        raise TypeError(f"find_scans takes several paths, this is one: [{os.fspath(paths)!r}]")
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        files = _scans_in(path) if path.is_dir() else [path] if _may_be_scan(path) else []
        for file in files:
            found.setdefault(file.absolute(), file)
    if not found:
        raise ImageError("no scans: only masks (*_mask.*) or overlays (*_overlay.*) were named")
    names = distinct_names(found, [file.stem for file in found])
    return [Scan(path, name) for path, name in zip(found.values(), names, strict=True)]


def distinct_names(paths: Iterable[Path], stems: Sequence[str]) -> list[Path]:
    """Names that mirror the folders below the one that all paths have in common.

    Args:
        paths: absolute ones.
        stems: what each is called by itself; of two that have one name then, each keeps its own whole one.
    """
    files = list(paths)
    if not files:
        return []
    top = os.path.commonpath([file.parent for file in files])
    names = [file.relative_to(top).with_name(stem) for file, stem in zip(files, stems, strict=True)]
    whole = [name.with_name(file.name) for file, name in zip(files, names, strict=True)]
    while True:
        taken = Counter(names)
        wider = [name if taken[name] == 1 else longer for name, longer in zip(names, whole, strict=True)]
        # A whole name may be what another file is called without its extension: that one is told apart next.
        if wider == names:
            return names
        names = wider


def files_below(folder: Path) -> Iterator[Path]:
    """The files of a folder and of all folders below it, but hidden ones and what links to folders lead to.

    Raises:
        ImageError: one of the folders cannot be read: leaving it out in silence could cost slices of a head.
    """

    def refuse(error: OSError) -> NoReturn:
        raise ImageError(f"{error.filename}: {error.strerror or error}") from error

    for parent, _, names in os.walk(folder, onerror=refuse):
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            try:
                is_file = path.is_file()
            except OSError as error:
                refuse(error)
            if is_file:
                yield path


def _scans_in(folder: Path) -> list[Path]:
    scans = [path for path in files_below(folder) if path.suffix.lower() in EXTENSIONS and _may_be_scan(path)]
    if not scans:
        raise ImageError(f"{folder}: no scans in this folder, that is no {', '.join(EXTENSIONS)}")
    return sorted(scans, key=_natural_order)


def _may_be_scan(path: Path) -> bool:
    return not path.stem.endswith((MASK_SUFFIX, OVERLAY_SUFFIX))


def _natural_order(path: Path) -> list[list[str | int]]:
    parts = (re.split(r"(\d+)", part.casefold()) for part in path.parts)
    return [[int(piece) if piece.isdecimal() else piece for piece in pieces] for pieces in parts]
