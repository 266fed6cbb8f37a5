"""The size that a picture file says it has, read from its header alone: a decoder asks for the memory that it names.

BMP: BITMAPCOREHEADER and BITMAPINFOHEADER; PNG: ISO/IEC 15948, 11.2.2; TIFF: revision 6.0, section 2, and BigTIFF.
"""

import struct
from typing import Final, Literal, NamedTuple

from gliogate.codestream import frame_size

_JPEG: Final = b"\xff\xd8"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_CORE_HEADER: Final = 12  # Bytes of the oldest header of a BMP, whose sides have 16 bits.
_TIFF: Final[dict[bytes, Literal["<", ">"]]] = {b"II": "<", b"MM": ">"}
_CLASSIC, _BIG = 42, 43
_HEIGHT_TAGS: Final = (257, 323)  # ImageLength and TileLength: a tile is decoded whole, however small its picture.
_WIDTH_TAGS: Final = (256, 322)
_PHOTOMETRIC_TAG: Final = 262
_WHITE_IS_ZERO: Final = 0
_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}


class PictureSize(NamedTuple):
    """Pixels along both sides, pages, and whether a TIFF says that its lowest value is white."""

    height: int
    width: int
    pages: int = 1
    is_white_zero: bool = False


def picture_size(data: bytes) -> PictureSize | None:
    """Reads the size of a BMP, JPEG, PNG or TIFF file; None where it is another or says none.

    Of several pages, it is the first's; what a file is called does not matter, for decoders do not look at it either.
    """
    try:
        if data.startswith(_PNG):
            width, height = struct.unpack_from(">II", data, 16)
            return PictureSize(height, width)
        if data.startswith(_JPEG):
            frame = frame_size(data)
            return frame and PictureSize(frame.rows, frame.columns)
        if data.startswith(b"BM"):
            [header] = struct.unpack_from("<I", data, 14)
            width, height = struct.unpack_from("<HH" if header == _CORE_HEADER else "<ii", data, 18)
            return PictureSize(abs(height), abs(width))  # Rows that run down have a negative height.
        return _tiff(data, _TIFF[data[:2]]) if data[:2] in _TIFF else None
    except (struct.error, OverflowError):
        return None


def _tiff(data: bytes, order: Literal["<", ">"]) -> PictureSize | None:
    [version] = struct.unpack_from(f"{order}H", data, 2)
    if version not in (_CLASSIC, _BIG):
        return None
    is_big = version == _BIG
    offset, count_of, entry_size = (f"{order}Q", f"{order}Q", 20) if is_big else (f"{order}I", f"{order}H", 12)
    [first] = [at] = struct.unpack_from(offset, data, 8 if is_big else 4)
    seen: set[int] = set()
    while at and at not in seen:  # What leads back to itself would have pages without end.
        seen.add(at)
        [entries] = struct.unpack_from(count_of, data, at)
        [at] = struct.unpack_from(offset, data, at + struct.calcsize(count_of) + entries * entry_size)
    if not first:
        return None
    start = first + struct.calcsize(count_of)
    [entries] = struct.unpack_from(count_of, data, first)
    values: dict[int, int] = {}
    for entry in range(start, start + entries * entry_size, entry_size):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if kind in _INTEGERS and tag in (*_HEIGHT_TAGS, *_WIDTH_TAGS, _PHOTOMETRIC_TAG):
            [value] = struct.unpack_from(order + _INTEGERS[kind], data, entry + (12 if is_big else 8))
            values[tag] = max(value, values.get(tag, 0))
    height, width = (max(values.get(tag, 0) for tag in tags) for tags in (_HEIGHT_TAGS, _WIDTH_TAGS))
    return PictureSize(height, width, len(seen), values.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO)
