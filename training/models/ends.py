"""What the networks begin and end with."""

import keras

from gliogate.contract import CHANNELS
from training.errors import RecipeError
from training.models.clahe import CLAHE
from training.models.layers import DropChannel, ResizeLike, SliceStandardization


def image_input(size: int | None, *, multiple: int = 32) -> keras.KerasTensor:
    """uint8 slices (B, S, S, 3) as they are on the wire.

    Args:
        size: S, or None for any.
        multiple: of what S must be a multiple.

    Raises:
        RecipeError: it is not.
    """
    if size is not None and (size <= 0 or size % multiple):
        raise RecipeError(f"size: {size}, expected a multiple of {multiple} pixels")
    return keras.Input((size, size, len(CHANNELS)), dtype="uint8", name="image")


def standardized(image: keras.KerasTensor, *, clahe: bool) -> keras.KerasTensor:
    """float32 (B, S, S, 3): each channel to mean 0 and deviation 1, with or without CLAHE before it."""
    if clahe:
        image = CLAHE(name="clahe")(image)
    return SliceStandardization(name="standardize")(image)


def mask_logits(features: keras.KerasTensor, *, like: keras.KerasTensor | None = None) -> keras.KerasTensor:
    """float32 (B, S, S) of features (B, S, S, C), whatever the precision before.

    Args:
        features: what the mask is seen in.
        like: a picture (B, S, S, C) to whose size the logits are brought, where the features have another.
    """
    logits = keras.layers.Conv2D(1, 1, dtype="float32", name="logits")(features)
    mask = DropChannel(name="mask")(logits)
    return mask if like is None else ResizeLike(name="full_size")(mask, like)


def mask_logits_from_half(features: keras.KerasTensor) -> keras.KerasTensor:
    """float32 (B, S, S) of features (B, S/2, S/2, C): a quarter of what a decoder up to full size costs."""
    logits = keras.layers.Conv2DTranspose(1, 2, strides=2, dtype="float32", name="mask_logits")(features)
    return DropChannel(name="mask")(logits)
