"""Random changes to a slice and its mask together, such that the label stays true."""

import cv2
import numpy as np
from numpy.typing import NDArray

from gliogate.contract import CHANNELS
from training.models.copies import COPY_BELOW, FLAIR
from training.recipe import Augmentation, Phase

OTHERS = [channel for channel in range(len(CHANNELS)) if channel != FLAIR]
HEAD = 25
"""Grey level above which a pixel belongs to the head, for the sake of finding the middle of it."""


def augment(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], phase: Phase, ranges: Augmentation, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Takes a window of a slice about its head, at the phase's scale, and changes it at random.

    Args:
        image: uint8, shape (256, 256, 3).
        mask: uint8 0 or 1, shape (256, 256).
        phase: which window, at which scale.
        ranges: of the changes.
        rng: where the randomness comes from.

    Returns:
        A new image (S, S, 3) and mask (S, S), S being the phase's size.
    """
    matrix = _placement(image, phase, ranges, rng)
    missing = _missing_sequences(image) | _dropped_sequences(ranges.drop_sequences, rng)
    size = (phase.size, phase.size)
    # The one interpolation that averages, as a smaller scale needs, knows no rotation: half a pixel is blurred first.
    source = image if phase.scale == 1 else cv2.blur(image, (round(1 / phase.scale),) * 2)
    image = cv2.warpAffine(source, matrix, size, flags=cv2.INTER_LINEAR)
    mask = cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST)
    image = _change_contrast(image, ranges.contrast, rng)
    image = _degrade(image, ranges, rng)
    # Last, so that what is missing is missing in the same way, whatever came before.
    for channel in missing:
        image[..., channel] = image[..., FLAIR]
    return image, mask


def _placement(
    image: NDArray[np.uint8], phase: Phase, ranges: Augmentation, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The affine map from the slice to what is shown: every change of geometry in one, so that it is sampled once."""
    side = image.shape[0]
    angle = np.deg2rad(rng.uniform(-1, 1) * ranges.rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, 0.0], [rng.uniform(-1, 1) * ranges.shear, 1.0]])
    flip = np.diag([-1.0 if ranges.flip and rng.random() < 0.5 else 1.0, 1.0])
    zoom = 1 + rng.uniform(-1, 1) * ranges.zoom
    linear = phase.scale * zoom * turn @ shear @ flip
    whole = phase.window == side
    centre = np.full(2, side / 2) if whole else _head_centre(image)
    # A window smaller than the slice moves over what it would else never show.
    reach = ranges.shift * side + 0.3 * (side - phase.window)
    centre = centre + rng.uniform(-1, 1, 2) * reach
    return np.hstack([linear, (phase.size / 2 - linear @ centre)[:, None]])


def _head_centre(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Middle (x, y) of the box around what is bright, found on every fourth pixel."""
    bright = image[::4, ::4, FLAIR] > HEAD
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    if not len(rows):
        return np.array([image.shape[1] / 2, image.shape[0] / 2])
    return 2.0 * np.array([columns[0] + columns[-1], rows[0] + rows[-1]])


def _change_contrast(image: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A gamma and a gain per channel, through one lookup table each."""
    levels = np.linspace(0, 1, 256)[:, None]
    gamma = (4 / 3) ** (strength * rng.uniform(-1, 1, 3))
    gain = 1 + strength * rng.uniform(-0.3, 0.2, 3)
    table = np.rint(np.clip(255 * gain * levels**gamma, 0, 255)).astype(np.uint8)
    return cv2.LUT(image, table.reshape(256, 1, 3))  # type: ignore[return-value]


def _degrade(image: NDArray[np.uint8], ranges: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur or noise, and a smooth change of brightness across the slice."""
    draw = rng.random()
    if draw < ranges.noise / 2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))  # type: ignore[assignment]
    elif draw < ranges.noise:
        noise = rng.normal(0, rng.uniform(2, 10), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < ranges.bias_field:
        coarse = rng.uniform(0.7, 1.3, (3, 3)).astype(np.float32)
        field = cv2.resize(coarse, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        image = np.clip(image * field[..., None], 0, 255).astype(np.uint8)
    return image


def _missing_sequences(image: NDArray[np.uint8]) -> set[int]:
    """Channels that hold FLAIR in the place of a sequence that there is not."""
    flair = image[..., FLAIR]
    limit = COPY_BELOW * flair.mean()
    return {c for c in OTHERS if cv2.absdiff(image[..., c], flair).mean() < limit}


def _dropped_sequences(share: float, rng: np.random.Generator) -> set[int]:
    """Both of FLAIR's companions in half of the share, one of them in the other half."""
    draw = rng.random()
    if draw >= share:
        return set()
    return set(OTHERS) if draw < share / 2 else {OTHERS[rng.integers(len(OTHERS))]}
