"""MobileNetV2 as a detector, and frozen as the encoder of a U-Net: what the field runs on small machines.

Both see the slice at 224 x 224 pixels, which ImageNet's weights were learned at, and of its channels FLAIR alone, in
which the masks were drawn: a grey picture, three times. Sources: Sandler et al. 2018, arXiv:1801.04381; Ronneberger et
al. 2015, arXiv:1505.04597.
"""

from pathlib import Path

import keras
from keras import ops

from gliogate.contract import CHANNELS
from training.models.decoder import decode
from training.models.ends import image_input, mask_logits
from training.models.layers import as_planes, as_slices
from training.models.pretrained import backbone, freeze_statistics, load_folded, quicken_statistics

SIZE = 224
FLAIR = CHANNELS.index("FLAIR")

SKIPS = ("block_13_expand_relu", "block_6_expand_relu", "block_3_expand_relu", "block_1_expand_relu")
"""From coarse to fine: 16, 8, 4 and 2 pixels a cell."""

WIDTHS = (128, 64, 48, 32, 16)


def mobilenetv2_detector(*, size: int | None = 256, weights: str | None = None) -> keras.Model:
    """uint8 slices (B, S, S, 3) in; `tumor` logit (B, 1) out.

    Args:
        size: S, a multiple of 32, or None for any.
        weights: `imagenet` (downloaded by Keras), an .npz file as `load_folded` reads it, or None, from scratch.

    Raises:
        RecipeError: the size is no such multiple, or the weights cannot be had.
    """
    image = image_input(size)
    features = mobilenetv2_encoder(_grey(image), weights)
    average = keras.layers.GlobalAveragePooling2D()(features.output)
    tumor = keras.layers.Dense(1, dtype="float32", name="tumor")(average)
    return keras.Model(image, {"tumor": tumor}, name="mobilenetv2_detector")


def mobilenetv2_unet(*, size: int | None = 256, weights: str | None = None) -> keras.Model:
    """uint8 slices (B, S, S, 3) in; `mask` logits (B, S, S) out.

    Args:
        size: S, a multiple of 32, or None for any.
        weights: the encoder's, as `mobilenetv2_detector` takes them; with weights it is frozen.

    Raises:
        RecipeError: the size is no such multiple, or the weights cannot be had.
    """
    image = image_input(size)
    x = _grey(image)
    encoder = mobilenetv2_encoder(x, weights)
    encoder.trainable = weights is None
    skips = [*(encoder.get_layer(name).output for name in SKIPS), x]
    x = decode(encoder.get_layer("block_16_project_BN").output, skips, WIDTHS)
    return keras.Model(image, {"mask": mask_logits(x, like=image)}, name="mobilenetv2_unet")


def mobilenetv2_encoder(image: keras.KerasTensor, weights: str | None) -> keras.Model:
    """A MobileNetV2 without its head, on a picture (B, S, S, 3) in [-1, 1].

    Args:
        image: what it is to see.
        weights: as `mobilenetv2_detector` takes them.

    Raises:
        RecipeError: the weights cannot be had.
    """
    file = None if weights in (None, "imagenet") else Path(weights)
    network = backbone(keras.applications.MobileNetV2, image, weights=None if file else weights)
    if file:
        load_folded(network, file)
    if weights:
        freeze_statistics(network)
    else:
        # Keras has 0.999 here, as if any run had the steps of ImageNet's.
        quicken_statistics(network)
    return network


def _grey(image: keras.KerasTensor) -> keras.KerasTensor:
    """FLAIR three times, float32 (B, 224, 224, 3) in [-1, 1]."""
    flair = as_slices(ops.take(as_planes(image), [FLAIR], axis=1))
    # Not keras.layers.Resizing, behind which a network that is exported runs in training mode.
    x = ops.image.resize(flair, (SIZE, SIZE), interpolation="bilinear", data_format="channels_last")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, dtype="float32", name="scale")(x)
    return keras.layers.Concatenate(dtype="float32", name="grey_to_rgb")([x, x, x])
