"""Random changes to a slice and its mask together, such that the label stays true."""

import cv2
import numpy as np
from numpy.typing import NDArray

from gliogate.contract import CHANNELS

FLAIR = CHANNELS.index("FLAIR")


def augment(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Flips, rotates (±20°), scales (±15%), shifts (±8%), changes each channel's contrast, and drops sequences.

    Args:
        image: uint8, shape (H, W, 3).
        mask: uint8 0 or 1, shape (H, W).
        rng: where the randomness comes from.

    Returns:
        A new image and mask of the same shapes.
    """
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    image, mask = _warp(image, mask, rng)
    return _drop_sequences(_change_contrast(image, rng), rng), mask


def _warp(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    height, width = mask.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-20, 20), rng.uniform(0.85, 1.15))
    matrix[:, 2] += rng.uniform(-0.08, 0.08, 2) * (width, height)
    image = cv2.warpAffine(np.ascontiguousarray(image), matrix, (width, height), flags=cv2.INTER_LINEAR)
    mask = cv2.warpAffine(np.ascontiguousarray(mask), matrix, (width, height), flags=cv2.INTER_NEAREST)
    return image, mask  # type: ignore[return-value]


def _change_contrast(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A gamma and a gain per channel, through one lookup table each."""
    levels = np.linspace(0, 1, 256)[:, None]
    table = 255 * rng.uniform(0.7, 1.2, 3) * levels ** rng.uniform(0.75, 1.33, 3)
    return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8).reshape(256, 1, 3))  # type: ignore[return-value]


def _drop_sequences(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """FLAIR in the place of the others, as the set itself has it where they are missing, and as a grey picture is."""
    draw = rng.random()
    if draw < 0.15:
        missing = [channel for channel in range(len(CHANNELS)) if channel != FLAIR]
        chosen = missing if draw < 0.08 else [missing[rng.integers(len(missing))]]
        image = image.copy()
        for channel in chosen:
            image[..., channel] = image[..., FLAIR]
    return image
