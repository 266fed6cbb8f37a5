"""The files that `gliogate analyze` writes, by the names of `--format`."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from gliogate.cli.options import UsageError
from gliogate.results import Analysis
from gliogate.runs import write_mask, write_overlay
from gliogate.volumes.formats import OF_VOLUMES, Formats, Written, require_libraries

OF_PICTURES: Final[Mapping[str, Callable[[Analysis, Path, Path], Path]]] = {
    "mask": write_mask,
    "overlays": write_overlay,
}
"""Each writes what was found in a picture, under a name, into a folder, and returns the file."""

ALL: Final = tuple(dict.fromkeys((*OF_PICTURES, *OF_VOLUMES)))


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
    require_libraries(formats or ())


def write_picture(analysis: Analysis, name: Path, folder: Path, formats: Formats) -> Written:
    """Writes a picture's files."""
    written = Written()
    for each, write in OF_PICTURES.items():
        if formats is None or each in formats:
            with written.keep_error():
                written.files[each] = write(analysis, name, folder)
    return written
