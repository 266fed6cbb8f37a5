"""The segmenter: a U-Net of residual blocks (Zhang et al. 2018, arXiv:1711.10684)."""

import keras

from training.models.ends import image_input, mask_logits, standardized


def resunet_segmenter(
    *, size: int | None = 256, filters: tuple[int, ...] = (16, 32, 64, 128, 256), clahe: bool = False
) -> keras.Model:
    """uint8 slices (B, S, S, 3) in; `mask` logits (B, S, S) out.

    Args:
        size: S, a multiple of 2**(len(filters) - 1), or None for any.
        filters: channels at each depth, from full size down.
        clahe: equalize contrast before the network.
    """
    image = image_input(size, multiple=2 ** (len(filters) - 1))
    x = standardized(image, clahe=clahe)
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
    return keras.Model(image, {"mask": mask_logits(x)}, name="resunet_segmenter")


def _residual_block(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    shortcut = keras.layers.BatchNormalization()(keras.layers.Conv2D(width, 1, use_bias=False)(x))
    x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x))
    return keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))
