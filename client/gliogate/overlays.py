"""Masks painted onto pictures: a translucent fill and an outline."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

PREDICTED: Final[Color] = (255, 176, 0)
KNOWN: Final[Color] = (64, 196, 255)
"""Amber and sky blue: told apart by every kind of color vision, and on grey tissue."""


def paint_mask(
    picture: NDArray[np.uint8], mask: NDArray[np.uint8], *, color: Color = PREDICTED, fill: float = 0.2
) -> NDArray[np.uint8]:
    """Paints a mask onto a picture.

    Args:
        picture: uint8 (H, W, 3), RGB; it is left as it is.
        mask: (H, W), anything but 0 is inside.
        color: of the outline and the fill.
        fill: opacity of the fill, 0 (outline only) to 1.

    Returns:
        A new picture, uint8 (H, W, 3), RGB. The outline runs along the inside of the mask's edge, one pixel wide for
        every 256 of the picture's shorter side.
    """
    inside = np.ascontiguousarray(mask != 0).astype(np.uint8)
    painted = picture.copy()
    if not inside.any():
        return painted
    tinted = picture * (1 - fill) + np.array(color) * fill
    painted[inside == 1] = tinted[inside == 1].astype(np.uint8)
    width = max(1, round(min(mask.shape) / 256))
    framed = cv2.copyMakeBorder(inside, width, width, width, width, cv2.BORDER_CONSTANT, value=[0])
    core = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=width)[width:-width, width:-width]
    painted[(inside == 1) & (core == 0)] = color
    return painted
