"""How large a volume may be. Every limit is held against what a file declares, before any memory is asked for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Final

from gliogate.errors import GliogateError, ImageError

MAX_VOXELS: Final = 512**3
"""Voxels of one sequence. Three sequences of that size take about 2 GB while they are read."""

MAX_SLICES: Final = 4096
"""Voxels along any axis, and frames of a DICOM series."""

MAX_FILES: Final = 20_000
"""Files in a folder or a zip."""

MAX_BYTES: Final = 4 * 2**30
"""Bytes of one DICOM file, and of all files of a zip together, both without compression."""


def check_shape(shape: Sequence[int], declared_by: str) -> None:
    """Holds a declared shape against the limits.

    Args:
        shape: voxels along each axis.
        declared_by: the file and the field that say so, for the error.

    Raises:
        ImageError: an axis is empty or too long, or there are too many voxels.
    """
    found = " x ".join(map(str, shape))
    if min(shape) < 1:
        raise ImageError(f"{declared_by}: {found}, expected at least one voxel along every axis")
    if max(shape) > MAX_SLICES or prod(shape) > MAX_VOXELS:
        limit = f"{MAX_SLICES} along an axis and {MAX_VOXELS} voxels in all"
        raise ImageError(f"{declared_by}: {found} is too large, expected at most {limit}")


@contextmanager
def naming(file: str, problem: str = "cannot be read") -> Iterator[None]:
    """Makes whatever a broken file leads a library into one `ImageError` that names the file.

    pydicom, nibabel, zipfile and the decoders behind them promise no type of error for input that is broken.
    """
    try:
        yield
    except GliogateError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise ImageError(f"{file}: {error.strerror}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{file}: {problem}: {reason}") from error
