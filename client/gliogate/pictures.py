"""Pictures to bytes and to files."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gliogate.files import replacing


def encode(picture: NDArray[np.uint8], extension: str) -> bytes:
    """Encodes a picture, uint8 (H, W) or RGB (H, W, 3), in the format that an extension stands for."""
    _, data = cv2.imencode(extension, picture if picture.ndim == 2 else picture[..., ::-1])
    return data.tobytes()


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Writes a picture, uint8 (H, W) or RGB (H, W, 3), as PNG.

    Raises:
        OSError: the file cannot be written; what was there before is left.
    """
    with replacing(path) as draft:
        draft.write_bytes(encode(picture, ".png"))
