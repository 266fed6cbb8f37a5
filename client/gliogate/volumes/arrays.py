"""Volumes of which nothing but the slices is known: NumPy files, and folders of numbered pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliogate.contract import CHANNELS
from gliogate.errors import ImageError
from gliogate.images import EXTENSIONS, declared_size, read_pixels
from gliogate.scans import find_scans
from gliogate.volumes.limits import MAX_SLICES, check_shape, naming
from gliogate.volumes.volume import Volume, of_slices

_EXPECTED = f"expected (N, H, W) or (N, H, W, {len(CHANNELS)})"


def is_of_slices(shape: tuple[int, ...]) -> bool:
    """Whether an array of that shape is one of slices; (H, W, 1) and (H, W, 3) are a single picture."""
    colors = (1, len(CHANNELS))
    return (len(shape) == 3 and shape[2] not in colors) or (len(shape) == 4 and shape[3] == len(CHANNELS))


def read_npy(path: Path) -> Volume:
    """Reads a `.npy` file of slices, (N, H, W) or (N, H, W, 3).

    Raises:
        ImageError: the file is broken, too large, or holds another shape or type.
    """
    return of_array(map_npy(path), name=str(path), source=(path,))


def map_npy(path: Path) -> NDArray[Any]:
    """Maps a `.npy` file: it costs no memory until its shape has been checked.

    Raises:
        ImageError: it is broken, or an archive.
    """
    with naming(str(path), "is no whole .npy file of numbers"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ImageError(f"{path}: is an .npz archive, not an .npy file")
        return array


def of_array(array: NDArray[Any], *, name: str = "the array", source: tuple[Path, ...] = ()) -> Volume:
    """Makes a volume of an array of slices, (N, H, W) or (N, H, W, 3), of integers or floats.

    Raises:
        ImageError: it has another shape or type, is too large, or has values that are NaN or infinite.
    """
    if not is_of_slices(array.shape):
        raise ImageError(f"{name}: has shape {array.shape}, {_EXPECTED}")
    if array.dtype.kind not in "uif":
        raise ImageError(f"{name}: has voxels of type {array.dtype}, expected integers or floats")
    check_shape(array.shape[:3], f"{name}: shape")
    return of_slices(array, name=name, source=source)


def read_pictures(folder: Path) -> Volume:
    """Reads a folder of numbered slices, as the Kaggle set has one for each patient; masks (`*_mask.*`) are left out.

    Raises:
        ImageError: there are no pictures, one cannot be read, or they differ in size, channels or type.
    """
    scans = [scan.path for scan in find_scans([folder]) if scan.path.suffix.lower() != ".npy"]
    if not scans or len(scans) > MAX_SLICES:
        known = ", ".join(extension for extension in EXTENSIONS if extension != ".npy")
        raise ImageError(f"{folder}: {len(scans)} pictures ({known}), expected 1 to {MAX_SLICES}")
    if len(folders := {path.parent for path in scans}) > 1:
        raise ImageError(f"{folder}: pictures in {len(folders)} folders, expected one: a folder is a volume")
    with _naming_picture(scans[0]):
        size = declared_size(scans[0])
    check_shape((len(scans), *size), f"{folder}: pictures and their size")
    first = _read_picture(scans[0])
    slices = np.empty((len(scans), *first.shape), first.dtype)
    for index, path in enumerate(scans):
        picture = first if index == 0 else _read_picture(path)
        if (picture.shape, picture.dtype) != (first.shape, first.dtype):
            found, expected = (f"{pixels.shape} of {pixels.dtype}" for pixels in (picture, first))
            raise ImageError(f"{path}: has shape {found}, expected {expected} as {scans[0].name} has")
        slices[index] = picture
    return of_array(slices, name=str(folder), source=tuple(scans))


@contextmanager
def _naming_picture(path: Path) -> Iterator[None]:
    with naming(str(path)):
        try:
            yield
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error.__cause__


def _read_picture(path: Path) -> NDArray[Any]:
    """Reads the pixels of a picture as they are stored, (H, W) or (H, W, 3)."""
    with _naming_picture(path):
        pixels = read_pixels(path)
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
