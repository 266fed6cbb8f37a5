"""Slices as pictures that stand in a page."""

import base64
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gliogate.contract import CHANNELS
from gliogate.overlays import Color, paint_mask

TRUE: Color = (255, 72, 72)
PREDICTED: Color = (64, 224, 120)
"""Red for what is true, green for what was predicted, as the field's figures have them."""

WHITE_PERCENTILE = 99.8
"""The percentile of a channel that is shown as white."""


class Panels(NamedTuple):
    """One slice five times, each a data URL."""

    scan: str
    true_mask: str
    scan_with_true: str
    predicted_mask: str
    scan_with_predicted: str


def panels(image: NDArray[np.uint8], truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> Panels:
    """Shows a slice (H, W, 3) in FLAIR with its masks (H, W), beside it and on it."""
    scan = flair(image)
    return Panels(
        embed(scan),
        embed(truth * np.uint8(255), lossless=True),
        embed(paint_mask(scan, truth, color=TRUE)),
        embed(predicted * np.uint8(255), lossless=True),
        embed(paint_mask(scan, predicted, color=PREDICTED)),
    )


def flair(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The FLAIR channel of a slice (H, W, 3), as a brightened grey RGB picture."""
    return brightened(image[..., CHANNELS.index("FLAIR")])


def brightened(channel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A channel (H, W), brightened, as an RGB picture (H, W, 3)."""
    white = max(float(np.percentile(channel, WHITE_PERCENTILE)), 1.0)
    return np.repeat(np.minimum(channel * (255 / white), 255).astype(np.uint8)[..., None], 3, axis=2)


def embed(picture: NDArray[np.uint8], *, lossless: bool = False) -> str:
    """Makes a picture, (H, W) or RGB (H, W, 3), a data URL."""
    kind, options = ("png", []) if lossless else ("webp", [cv2.IMWRITE_WEBP_QUALITY, 85])
    _, data = cv2.imencode(f".{kind}", picture if picture.ndim == 2 else picture[..., ::-1], options)
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"
