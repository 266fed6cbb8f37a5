"""One DICOM file: what its header says, held against the bytes that there are, and its pixels."""

import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gliogate.codestream import frame_size
from gliogate.errors import ImageError
from gliogate.volumes.entries import Entry
from gliogate.volumes.extras import require
from gliogate.volumes.limits import MAX_BYTES, check_shape, naming

DIRECTION_TOLERANCE: Final = 1e-3
"""How far cosines of directions, and spacings in mm, may differ and still be the same."""

SMALLEST_MM: Final = 1e-6
LARGEST: Final = 1e10
"""The smallest distance and the largest number that make sense; with others, volumes would be 0 or infinite."""

_PREAMBLE: Final = 128
_MAGIC: Final = b"DICM"
# Files without preamble, as old programs wrote them: the first element of the meta information, or of a bare dataset.
_BARE_META: Final = b"\x02\0\0\0UL\4\0"
_BARE_DATASET: Final = re.compile(rb"\x08\0[\0\1\5\x08\x12-\x14\x16\x18]\0(?:[A-Z]{2}|..\0\0)", re.DOTALL)
# StudyInstanceUID, SeriesInstanceUID and its length, little endian: where they are neighbours, they are the file's own,
# and not those of a series that it refers to.
_SERIES_UID: Final = re.compile(
    rb"\x20\0\x0d\0(?:UI..|..\0\0)[0-9.]{1,64}[\0 ]?\x20\0\x0e\0(?:UI(..)|(..)\0\0)", re.DOTALL
)
_META_GROUP: Final = b"\x02\x00"
_LONG_VRS: Final = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_INFLATED_AT_ONCE: Final = 2**20
_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
_RLE: Final = "1.2.840.10008.1.2.5"
_JPEG_LS: Final = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_NO_PICTURES: Final = ("KO", "PR", "RTDOSE", "RTPLAN", "RTSTRUCT", "SEG", "SR")


def is_dicom(entry: Entry) -> bool:
    """Whether a file begins as DICOM files do, or as those do that lack the preamble."""
    if entry.size <= _PREAMBLE:
        return False
    head = entry.head(_PREAMBLE + len(_MAGIC))
    return head[_PREAMBLE:] == _MAGIC or head.startswith(_BARE_META) or bool(_BARE_DATASET.match(head))


def series_uids(entry: Entry) -> set[str]:
    """The series that a broken file says it is of; none where even that is lost.

    Raises:
        ImageError: the file cannot be read.
    """
    data = entry.read()
    found: set[str] = set()
    for match in _SERIES_UID.finditer(data):
        length = int.from_bytes(match[1] or match[2], "little")
        value = data[match.end() : match.end() + length].rstrip(b" \0")
        if value and match.end() + length <= len(data) and set(value) <= set(b"0123456789."):
            found.add(value.decode())
    return found


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keeps what pydicom finds odd off the terminal; what matters of it is an ImageError or a note."""
    with warnings.catch_warnings():  # Threads share it: at worst, pydicom stays quiet.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
        yield


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a file; what the file does not say is None.

    Attributes:
        file: the file.
        index: among the pictures of the file.
        position: (3,), of its first pixel in the patient, in mm (LPS+).
        orientation: (2, 3), the directions in which columns and rows are counted (LPS+).
        spacing: (2,), between rows and between columns, in mm.
        slope: by which stored values are multiplied.
        intercept: that is added to them then.
        display: what holds the window in which the file asks to be shown.
    """

    file: "DicomFile"
    index: int
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing: NDArray[np.float64] | None
    slope: float
    intercept: float
    display: Any

    @property
    def window(self) -> tuple[float, float]:
        """The values that become black and white in the window that the file asks for first (DICOM PS3.3, C.11.2.1).

        Raises:
            ImageError: it asks for none, or for one that makes no sense.
        """
        center, width = (self.file.first_number(keyword, self.display) for keyword in ("WindowCenter", "WindowWidth"))
        function = self.file.text("VOILUTFunction", self.display) or "LINEAR"
        if function not in ("LINEAR", "LINEAR_EXACT"):
            raise ImageError(f"{self.name}: VOILUTFunction is {function:.80}, expected LINEAR or LINEAR_EXACT")
        if width <= 0:
            raise ImageError(f"{self.name}: WindowWidth is {width:g}, expected a number above 0")
        return center - width / 2, center + width / 2 - (function == "LINEAR")

    @property
    def name(self) -> str:
        """What errors call it."""
        name = self.file.entry.name
        return name if self.file.frame_count == 1 else f"{name}, frame {self.index + 1}"


class DicomFile:
    """The header of a DICOM file, without its pixels.

    Args:
        entry: the file.

    Raises:
        MissingExtraError: pydicom is not installed.
        ImageError: the file is broken or too large.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.header: Any = _parse(entry, stop_before_pixels=True)

    def value(self, keyword: str, holder: Any = None) -> Any:
        """An attribute's value; None where it is missing or empty.

        Raises:
            ImageError: it cannot be read.
        """
        with naming(self.entry.name, f"{keyword} cannot be read"):
            value = (self.header if holder is None else holder).get(keyword)
            return None if value is None or value == "" or (hasattr(value, "__len__") and not len(value)) else value

    def text(self, keyword: str, holder: Any = None) -> str:
        """An attribute as text; empty where it is missing.

        Raises:
            ImageError: it cannot be read.
        """
        value = self.value(keyword, holder)
        with naming(self.entry.name, f"{keyword} cannot be read"):
            return "" if value is None else str(value).strip()

    def numbers(self, keyword: str, count: int, holder: Any = None) -> NDArray[np.float64] | None:
        """An attribute's numbers; None where it is missing or empty.

        Raises:
            ImageError: there are more or fewer, or one is NaN, infinite or beyond `LARGEST`.
        """
        value = self.value(keyword, holder)
        if value is None:
            return None
        expected = f"{keyword} is {self.text(keyword, holder):.80}, expected {count} finite numbers up to {LARGEST:g}"
        with naming(self.entry.name, expected):
            numbers = np.atleast_1d(np.array(value, np.float64))
        if numbers.shape != (count,) or not (np.abs(numbers) <= LARGEST).all():  # No NaN is.
            raise ImageError(f"{self.entry.name}: {expected}")
        return numbers

    def number(self, keyword: str, default: float, holder: Any = None) -> float:
        """An attribute's only number, or a default where it is missing."""
        numbers = self.numbers(keyword, 1, holder)
        return default if numbers is None else float(numbers[0])

    def first_number(self, keyword: str, holder: Any) -> float:
        """The first of an attribute's numbers.

        Raises:
            ImageError: there is none, or it is NaN, infinite or beyond `LARGEST`.
        """
        value = self.value(keyword, holder)
        found = "missing" if value is None else f"{self.text(keyword, holder):.80}"
        expected = f"{keyword} is {found}, expected finite numbers up to {LARGEST:g}"
        with naming(self.entry.name, expected):
            first = float(np.atleast_1d(np.array(value, np.float64))[0])
        if not abs(first) <= LARGEST:  # NaN is not.
            raise ImageError(f"{self.entry.name}: {expected}")
        return first

    def whole(self, keyword: str, default: int | None = None) -> int:
        """An attribute's whole number above 0.

        Raises:
            ImageError: it is missing and has no default, or is no such number.
        """
        number = self.number(keyword, -1 if default is None else default)
        if number < 1 or number != int(number):
            found = "missing" if self.value(keyword) is None else f"{number:g}"
            raise ImageError(f"{self.entry.name}: {keyword} is {found}, expected a whole number above 0")
        return int(number)

    @cached_property
    def has_pictures(self) -> bool:
        """Whether this is a picture, not a directory, report, plan or segmentation.

        Raises:
            ImageError: it should be one, or may have been, and says no Rows: mostly it is cut short.
        """
        storage = self.text("SOPClassUID") or self.text("MediaStorageSOPClassUID", self.header.file_meta)
        if storage == _DIRECTORY or self.text("Modality") in _NO_PICTURES:
            return False
        if self.value("Rows") is None:
            pydicom = require("pydicom", extra="dicom")
            if not storage or "Image Storage" in pydicom.uid.UID(storage).name:
                raise ImageError(f"{self.entry.name}: Rows is missing, expected a whole number above 0")
            return False
        return True

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.whole("Rows"), self.whole("Columns")

    @cached_property
    def is_negative(self) -> bool:
        """Whether high values are dark."""
        return self.text("PhotometricInterpretation") == "MONOCHROME1"

    @cached_property
    def frame_count(self) -> int:
        """How many pictures the file holds."""
        return self.whole("NumberOfFrames", 1)

    @cached_property
    def transfer_syntax(self) -> Any:
        """Pydicom's UID of the way in which the pixels are encoded."""
        uid = self.value("TransferSyntaxUID", self.header.file_meta)
        if not getattr(uid, "is_transfer_syntax", False):
            found = self.text("TransferSyntaxUID", self.header.file_meta) or "missing"
            raise ImageError(f"{self.entry.name}: TransferSyntaxUID is {found:.80}, expected one that is known")
        return uid

    def is_padding(self, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Which stored values lie outside of the picture (DICOM PS3.3, C.7.5.1.1.2); None where the file names none.

        Raises:
            ImageError: what names them is no number.
        """
        first = self.numbers("PixelPaddingValue", 1)
        if first is None:
            return None
        last = self.numbers("PixelPaddingRangeLimit", 1)
        low, high = sorted((float(first[0]), float((first if last is None else last)[0])))
        return np.asarray((stored >= low) & (stored <= high))

    def is_copy_of(self, other: "DicomFile") -> bool:
        """Whether both hold the same pictures of the same place.

        Raises:
            ImageError: pixels cannot be decoded.
        """
        if self.entry.size == other.entry.size and self.entry.read() == other.entry.read():
            return True
        told = (
            "InstanceNumber",
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "Rows",
            "Columns",
            "NumberOfFrames",
        )
        if any(self.text(keyword) != other.text(keyword) for keyword in told):
            return False
        for file in (self, other):
            file.check_pixels()
        return np.array_equal(self.pixels(), other.pixels())

    def check_pixels(self) -> None:
        """Holds what the header says of the pixels against the limits and the bytes that there are.

        Raises:
            ImageError: they do not agree.
        """
        name = self.entry.name
        check_shape((self.frame_count, *self.shape), f"{name}: NumberOfFrames, Rows and Columns")
        interpretation = self.text("PhotometricInterpretation")
        if interpretation not in ("MONOCHROME1", "MONOCHROME2") or self.whole("SamplesPerPixel", 1) != 1:
            raise ImageError(f"{name}: PhotometricInterpretation is {interpretation or 'missing'}, expected MONOCHROME")
        needed = self.frame_count * self.shape[0] * self.shape[1] * self.whole("BitsAllocated") // 8
        with naming(name):
            is_raw = not self.transfer_syntax.is_encapsulated and not self.transfer_syntax.is_deflated
        if is_raw and needed > self.entry.size:
            declared = f"NumberOfFrames {self.frame_count}, Rows {self.shape[0]}, Columns {self.shape[1]}"
            raise ImageError(f"{name}: {declared} need {needed} bytes, but the file has {self.entry.size}")

    def frames(self) -> list[Frame]:
        """The pictures of the file; the per-frame groups of an enhanced file say where each is.

        Raises:
            ImageError: a value is missing or wrong.
        """
        self.check_pixels()
        per_frame = self.value("PerFrameFunctionalGroupsSequence")
        with naming(self.entry.name, "functional groups cannot be read"):
            if per_frame is not None and len(per_frame) != self.frame_count:
                raise ImageError(
                    f"{self.entry.name}: PerFrameFunctionalGroupsSequence has {len(per_frame)} items, "
                    f"expected NumberOfFrames, {self.frame_count}"
                )
            shared = (self.value("SharedFunctionalGroupsSequence") or [None])[0]
            return [self._frame(index, per_frame and per_frame[index], shared) for index in range(self.frame_count)]

    def _frame(self, index: int, own: Any, shared: Any) -> Frame:
        def group(name: str) -> Any:
            """A functional group of the frame's or of all frames; in a file without them, the file itself."""
            if own is None and shared is None:
                return self.header
            items = next((self.value(name, one) for one in (own, shared) if one is not None and name in one), None)
            return {} if items is None else items[0]

        plane, measures = group("PlaneOrientationSequence"), group("PixelMeasuresSequence")
        rescale = group("PixelValueTransformationSequence")
        position = self.numbers("ImagePositionPatient", 3, group("PlanePositionSequence"))
        # Frames of a file without groups would all be at the file's one position.
        is_placed = own is not None or self.frame_count == 1
        slope, intercept = self.number("RescaleSlope", 1, rescale), self.number("RescaleIntercept", 0, rescale)
        if slope == 0:
            raise ImageError(f"{self.entry.name}: RescaleSlope is 0, expected another number")
        spacing = self.numbers("PixelSpacing", 2, measures)
        if spacing is not None and (spacing < SMALLEST_MM).any():
            raise ImageError(
                f"{self.entry.name}: PixelSpacing is {spacing.tolist()}, expected spacings above {SMALLEST_MM:g} mm"
            )
        return Frame(
            file=self,
            index=index,
            position=position if is_placed else None,
            orientation=self.orientation(plane) if is_placed else None,
            spacing=spacing,
            slope=slope,
            intercept=intercept,
            display=group("FrameVOILUTSequence"),
        )

    def orientation(self, holder: Any = None) -> NDArray[np.float64] | None:
        """(2, 3): the directions of columns and rows in the patient; None where they are missing.

        Raises:
            ImageError: they are no two directions.
        """
        numbers = self.numbers("ImageOrientationPatient", 6, holder)
        if numbers is None:
            return None
        directions = numbers.reshape(2, 3)
        if np.abs(directions @ directions.T - np.eye(2)).max() > 10 * DIRECTION_TOLERANCE:
            raise ImageError(
                f"{self.entry.name}: ImageOrientationPatient is {numbers.tolist()}, expected two unit vectors "
                "that are perpendicular"
            )
        return directions

    def pixels(self) -> NDArray[Any]:
        """Decodes all pictures of the file, (frames, rows, columns), as they are stored.

        Raises:
            ImageError: they cannot be decoded.
        """
        name = self.entry.name
        dataset = _parse(self.entry)
        with naming(name, "PixelData cannot be decoded"):
            if self.transfer_syntax.is_encapsulated:
                _check_codestreams(dataset, self)
                dataset.pixel_array_options(decoding_plugin=_decoder(self.transfer_syntax))
            return np.asarray(dataset.pixel_array).reshape(self.frame_count, *self.shape)


def _parse(entry: Entry, *, stop_before_pixels: bool = False) -> Any:
    """Parses a file with pydicom."""
    pydicom = require("pydicom", extra="dicom")
    data = entry.read()
    with naming(entry.name, "is a broken DICOM file"):
        if _BARE_DATASET.match(data) and data[_PREAMBLE : _PREAMBLE + len(_MAGIC)] != _MAGIC:
            raise ImageError(
                f"{entry.name}: is DICOM without preamble and file meta information (PS3.10, 7.1), which say how it is "
                "encoded: convert it, for instance with dcmconv of DCMTK"
            )
        _check_deflated(data, entry.name)
        force = data.startswith(_BARE_META)
        dataset = pydicom.dcmread(BytesIO(data), stop_before_pixels=stop_before_pixels, force=force)
        dataset.buffer = None  # Which would keep all bytes of the file.
        return dataset


def _check_deflated(data: bytes, name: str) -> None:
    """Inflates a deflated dataset piece by piece, only to see that it is not a bomb: pydicom inflates it as a whole."""
    start = _meta_end(data)
    if _DEFLATED not in data[:start]:
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    rest, size = data[start:], 0
    while not inflater.eof and (piece := inflater.decompress(rest, _INFLATED_AT_ONCE)):
        rest = inflater.unconsumed_tail
        size += len(piece)
        if size > MAX_BYTES:
            raise ImageError(f"{name}: inflates to more than {MAX_BYTES} bytes")


def _meta_end(data: bytes) -> int:
    """Where the dataset begins, after the elements of group 0002 (DICOM PS3.10, 7.1)."""
    at = 0 if data.startswith(_BARE_META) else _PREAMBLE + len(_MAGIC)
    while data[at : at + 2] == _META_GROUP:
        is_long = data[at + 4 : at + 6] in _LONG_VRS
        length = data[at + 8 : at + 12] if is_long else data[at + 6 : at + 8]
        at += (12 if is_long else 8) + int.from_bytes(length, "little")
    return at


def _decoder(transfer_syntax: Any) -> str:
    """The plug-in of pydicom's to decode with.

    GDCM last, for it tells the terminal of every broken codestream; but not of JPEG-LS, for which it comes first:
    pyjpegls takes ten seconds over some broken kilobytes.
    """
    from pydicom.pixels.decoders.base import get_decoder

    plugins = get_decoder(transfer_syntax).available_plugins
    gdcm_first = str(transfer_syntax) in _JPEG_LS
    return min(plugins, key=lambda plugin: (plugin == "gdcm") != gdcm_first, default="")


def _check_codestreams(dataset: Any, file: DicomFile) -> None:
    """Sees that every compressed frame has the size that the header says, before a decoder asks for its memory."""
    if str(file.transfer_syntax) == _RLE:
        return  # Nothing in it names a size.
    from pydicom.encaps import generate_frames

    expected = (*file.shape, 1)
    for index, frame in enumerate(generate_frames(dataset.PixelData, number_of_frames=file.frame_count)):
        if (found := frame_size(frame)) != expected:
            said = "no size" if found is None else f"{found.rows} x {found.columns} x {found.samples}"
            rows, columns = file.shape
            raise ImageError(
                f"{file.entry.name}: the codestream of frame {index + 1} says {said}, but Rows and Columns {rows} x "
                f"{columns} x 1"
            )
