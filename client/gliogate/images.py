"""Any picture to a slice, and a mask back onto the picture's own grid.

A *picture* is what people have: a file, or an array of any size and numeric type. A *slice* is what goes over the wire:
uint8 (256, 256, 3), see `gliogate.contract`. A picture keeps its proportions: it is scaled until its longer side fills
the slice, and centered on black. A picture of 256x256 pixels is the slice, unchanged.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gliogate.contract import CHANNELS, IMAGE, SLICE_SIZE
from gliogate.errors import ImageError
from gliogate.intensity import value_range
from gliogate.picture_size import PictureSize, picture_size

Picture = str | os.PathLike[str] | NDArray[Any]
"""A file's path, or an array (H, W), (H, W, 1) or (H, W, 3)."""

EXTENSIONS: Final = (".bmp", ".jpeg", ".jpg", ".npy", ".png", ".tif", ".tiff")
"""Extensions of the files that can be read, in lower case; a file's own may be in upper case."""

MAX_PIXELS: Final = 2**25
"""Pixels of a file, some 5,800 x 5,800: held against what it declares, before any memory is asked for. Color of 16 bits
of that size takes about 2 GB while it is read. (`gliogate.volumes.limits` has those of volumes.)"""

LARGEST_VALUE: Final = 1e30
"""What a pixel or voxel may hold: far more than any scanner's, and little enough to reckon with in 32 bits."""

_EXPECTED: Final = f"expected (H, W), (H, W, 1) or (H, W, {len(CHANNELS)})"
_JPEG: Final = b"\xff\xd8"
_HOW: Final = cv2.IMREAD_UNCHANGED
_HOW_JPEG: Final = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
"""As the other, and turned as EXIF says: viewers show it so."""

_PNG_END: Final = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class SliceGeometry:
    """Where a picture lies in its slice.

    Attributes:
        height: the picture's height in pixels.
        width: the picture's width in pixels.
    """

    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the slice that the picture fills."""
        longer = max(self.height, self.width)
        rows, columns = (max(1, round(side * SLICE_SIZE / longer)) for side in (self.height, self.width))
        top, left = (SLICE_SIZE - rows) // 2, (SLICE_SIZE - columns) // 2
        return slice(top, top + rows), slice(left, left + columns)

    def to_slice(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scales a picture, uint8 (height, width, 3), into a slice, uint8 (256, 256, 3): itself where it is one."""
        if picture.shape == IMAGE.shape:
            return picture
        canvas = np.zeros(IMAGE.shape, np.uint8)
        rows, columns = self.window
        canvas[rows, columns] = _resize(picture, rows.stop - rows.start, columns.stop - columns.start)
        return canvas

    def to_picture(self, plane: NDArray[Any]) -> NDArray[np.float32]:
        """Scales a plane of the slice's grid, (256, 256), onto the picture's grid, float32 (height, width)."""
        return _resize(plane[self.window].astype(np.float32), self.height, self.width)

    def mask_to_picture(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Brings a mask of 0 and 1 from the slice's grid onto the picture's: a pixel at least half covered is 1."""
        inside = mask[self.window]
        if inside.shape == (self.height, self.width):
            return inside.copy()
        if not inside.any():
            return np.zeros((self.height, self.width), np.uint8)
        return (self.to_picture(mask) >= 0.5).view(np.uint8)


def load_picture(picture: Picture) -> NDArray[np.uint8]:
    """Makes any picture 8-bit and three-channel, on its own grid.

    uint8 is taken as it is. Every wider type is mapped linearly, channel by channel, so that the channel's minimum
    becomes 0 and its 99.9th percentile (its maximum, where those two are equal) 255, without burned-in marks; see
    `gliogate.intensity`. A constant channel becomes 0.
    A grey picture stands in all three channels. The channels of a color file are red, green, blue = pre-contrast,
    FLAIR, post-contrast; an opaque alpha channel of a file is dropped.

    Args:
        picture: a file (see `EXTENSIONS`) or an array (H, W), (H, W, 1) or (H, W, 3) of integers or floats.

    Returns:
        A new array, uint8 (H, W, 3).

    Raises:
        ImageError: the file cannot be read, or the shape, type or values are none that a picture can have.
    """
    if isinstance(picture, str | os.PathLike):
        path = Path(picture)
        try:
            pixels = read_pixels(path)
            with _enough_memory():
                return _to_rgb8(pixels)
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error.__cause__
    if isinstance(picture, np.ndarray):
        with _enough_memory():
            # An array alone: a matrix has two dimensions whatever is taken of it.
            return _to_rgb8(np.asarray(picture))
    raise ImageError(f"a picture is a path or a NumPy array, not {type(picture).__name__}")


def read_pixels(path: Path) -> NDArray[Any]:
    """Reads the pixels of a file as they are stored, color channels in the order red, green, blue.

    Raises:
        ImageError: the file cannot be read, or says that it has more than `MAX_PIXELS`; it does not name the file.
    """
    with _enough_memory():
        return _read_npy(path) if path.suffix.lower() == ".npy" else _drop_alpha(_decode(_read_bytes(path)))


def declared_size(path: Path) -> tuple[int, int]:
    """Reads the height and width of a picture, other than a `.npy` file, without decoding it.

    Raises:
        ImageError: as `read_pixels`.
    """
    size = _declared_size(_read_bytes(path))
    return size.height, size.width


def _refuse_folder(path: Path) -> None:
    with _openable():
        mode = path.stat().st_mode
    if S_ISDIR(mode):
        raise ImageError("is a folder, not a picture")


@contextmanager
def _openable() -> Iterator[None]:
    """What the system says of a path that it cannot open becomes an ImageError; some paths Python itself refuses."""
    try:
        yield
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from error
    except ValueError as error:
        raise ImageError(f"is no path that a file can have ({error})") from error


def _read_bytes(path: Path) -> bytes:
    _refuse_folder(path)
    extension = path.suffix.lower()
    if extension not in EXTENSIONS:
        raise ImageError(f"cannot read {extension or 'a file without extension'}, only {', '.join(EXTENSIONS)}")
    with _openable():
        data = path.read_bytes()
    if not data:
        raise ImageError("is empty")
    return data


def _read_npy(path: Path) -> NDArray[Any]:
    _refuse_folder(path)
    try:
        # Mapped, it costs no memory until its shape has been checked.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except EOFError as error:
        raise ImageError("is empty") from error
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from error
    except (ValueError, MemoryError, OverflowError) as error:
        raise ImageError(f"is no whole .npy file of numbers ({error})") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ImageError("is an .npz archive, not an .npy file")
    if array.ndim >= 2:  # What has no height and width is refused for that.
        _check_size(*array.shape[:2])
    return np.array(array)


def _declared_size(data: bytes) -> PictureSize:
    size = picture_size(data)
    if size is None:
        raise ImageError("is damaged, cut short, or no picture at all: expected BMP, JPEG, PNG or TIFF")
    if size.pages > 1:
        raise ImageError(f"has {size.pages} pages: read them and give each to analyze_many as an array")
    _check_size(size.height, size.width)
    return size


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ImageError(f"has {height} x {width} pixels, expected at most {MAX_PIXELS} in all: scale it down first")


def _decode(data: bytes) -> NDArray[Any]:
    declared = _declared_size(data)
    # libpng tells the terminal, past every logger, that a file is cut short: do not let it find out.
    cut_short = data.startswith(b"\x89PNG") and _PNG_END not in data
    pixels = None
    if not cut_short:
        with _silent_opencv():
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _HOW_JPEG if data[:2] == _JPEG else _HOW)
    if pixels is None:
        raise ImageError("is damaged, cut short, or no picture at all")
    # OpenCV inverts such a TIFF only where it has 8 bits.
    if declared.is_white_zero and pixels.dtype.kind == "u" and pixels.dtype != np.uint8:
        pixels = ~pixels
    return pixels


@contextmanager
def _enough_memory() -> Iterator[None]:
    """What OpenCV and NumPy raise where memory does not suffice, or a decoder gives up, becomes an ImageError."""
    try:
        yield
    except cv2.error as error:
        raise ImageError(f"cannot be decoded ({error.err or error})") from error
    except MemoryError as error:
        raise ImageError(f"needs more memory than there is ({error})") from error


@contextmanager
def _silent_opencv() -> Iterator[None]:
    """Keeps OpenCV's own account of a broken file off the terminal; the caller gets an ImageError."""
    level = cv2.getLogLevel()
    cv2.setLogLevel(0)
    try:
        yield
    finally:
        cv2.setLogLevel(level)


def _drop_alpha(pixels: NDArray[Any]) -> NDArray[Any]:
    """Turns OpenCV's blue, green, red[, alpha] into red, green, blue."""
    if pixels.ndim < 3:
        return pixels
    if pixels.shape[2] == 4:
        if pixels[..., 3].min() != pixels[..., 3].max():
            raise ImageError("has a fourth channel that is not an opaque alpha channel: flatten it first")
        pixels = pixels[..., :3]
    # A copy that NumPy reverses takes some 80 times as long.
    return cv2.merge(cv2.split(pixels)[::-1])


def _to_rgb8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype.kind not in "uif":
        raise ImageError(f"has pixels of type {pixels.dtype}, expected integers or floats")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, len(CHANNELS))):
        raise ImageError(f"has shape {pixels.shape}, {_EXPECTED}")
    if pixels.size == 0:
        raise ImageError(f"has shape {pixels.shape}: no pixels, {_EXPECTED}")
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    if pixels.dtype == np.uint8 and pixels.shape[2] == len(CHANNELS):
        return np.array(pixels, order="C")
    planes = np.moveaxis(pixels, 2, 0)
    if pixels.dtype != np.uint8:
        planes = np.stack([_rescale(plane) for plane in _finite(planes)])
    return np.asarray(cv2.merge(list(planes) * (len(CHANNELS) // len(planes))), np.uint8)


def _finite(planes: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):  # What overflows is infinite, and told so.
        values = planes.astype(np.float64)
    finite = np.abs(values) <= LARGEST_VALUE  # No NaN is.
    if not finite.all():
        wrong = np.argwhere(~np.moveaxis(finite, 0, 2))
        row, column, channel = wrong[0].tolist()
        where = f"the first at row {row}, column {column}, channel {channel}"
        raise ImageError(f"has {len(wrong)} values that are NaN, infinite or beyond {LARGEST_VALUE:g}, {where}")
    return values


def _rescale(plane: NDArray[np.float64]) -> NDArray[np.uint8]:
    black, white, outside, _ = value_range(plane)
    scaled: NDArray[np.float64] = plane - black
    if outside is not None:
        scaled[plane == outside] = 0
    scaled /= white - black if white > black else 1
    np.clip(scaled, 0, 1, out=scaled)
    scaled *= 255
    np.rint(scaled, out=scaled)
    return scaled.astype(np.uint8)


def _resize(plane: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    if plane.shape[:2] == (height, width):
        return plane
    # Averaging over what falls into a pixel is what keeps a shrunken picture free of aliasing.
    shrinks = height * width < plane.shape[0] * plane.shape[1]
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
