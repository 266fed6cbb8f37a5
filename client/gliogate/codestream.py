"""The size that a compressed picture says it has, read from its header alone.

A decoder asks for the memory that the codestream names, whatever a DICOM file around it says.
JPEG: ITU-T T.81, B.2.2; JPEG-LS: T.87, C.2.2; JPEG 2000: T.800, A.5.1.
"""

import struct
from typing import Final, NamedTuple

_SOC_SIZ: Final = b"\xff\x4f\xff\x51"
_SOI: Final = b"\xff\xd8"
_JPEG_LS_FRAME: Final = 0xF7
_FRAME_MARKERS: Final = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {_JPEG_LS_FRAME}


class FrameSize(NamedTuple):
    """Pixels along both sides, and samples of each."""

    rows: int
    columns: int
    samples: int


def frame_size(codestream: bytes) -> FrameSize | None:
    """Reads the size of a JPEG, JPEG-LS or JPEG 2000 codestream; None where it says none."""
    try:
        if codestream.startswith(_SOI):
            return _jpeg(codestream)
        # JPEG 2000 may come in the boxes of a JP2 file.
        start = codestream.find(_SOC_SIZ)
        return None if start < 0 else _jpeg2000(codestream, start + len(_SOC_SIZ))
    except (struct.error, IndexError):
        return None


def _jpeg(data: bytes) -> FrameSize | None:
    at = len(_SOI)
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # A fill byte.
            at += 1
            continue
        length, _, rows, columns, samples = struct.unpack_from(">HBHHB", data, at + 2)
        if marker in _FRAME_MARKERS:
            return FrameSize(rows, columns, samples)
        at += 2 + int(length)
    return None


def _jpeg2000(data: bytes, at: int) -> FrameSize:
    # Lsiz, Rsiz, Xsiz, Ysiz, XOsiz, YOsiz, four of the tiles, Csiz
    _, _, width, height, left, top, *_, samples = struct.unpack_from(">HH8IH", data, at)
    return FrameSize(height - top, width - left, samples)
