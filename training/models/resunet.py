"""The segmenter: a U-Net of residual blocks (Zhang et al. 2018, arXiv:1711.10684)."""

import keras

from gliogate.contract import CHANNELS
from training.models.layers import DropChannel, SliceStandardization


def resunet_segmenter(*, size: int | None = None, filters: tuple[int, ...] = (16, 32, 64, 128, 256)) -> keras.Model:
    """uint8 slices (B, H, W, 3) in; mask logits (B, H, W) out. H and W are multiples of 2**(len(filters) - 1)."""
    image = keras.Input((size, size, len(CHANNELS)), dtype="uint8", name="image")
    x = SliceStandardization(name="standardize")(image)
    skips = []
    for width in filters[:-1]:
        x = _residual_block(x, width)
        skips.append(x)
        x = keras.layers.MaxPooling2D(2)(x)
    x = _residual_block(x, filters[-1])
    for width, skip in zip(reversed(filters[:-1]), reversed(skips), strict=True):
        x = keras.layers.Conv2D(width, 1, use_bias=False)(x)
        x = keras.layers.UpSampling2D(2, interpolation="nearest")(x)
        x = _residual_block(keras.layers.Concatenate()([x, skip]), width)
    x = keras.layers.Conv2D(1, 1, name="logits")(x)
    return keras.Model(image, DropChannel(name="mask")(x), name="resunet_segmenter")


def _residual_block(x, width: int):
    shortcut = keras.layers.BatchNormalization()(keras.layers.Conv2D(width, 1, use_bias=False)(x))
    x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x))
    return keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))
