"""One network that learns both tasks at once, and is served as two: the flagship.

The slice is taken in at half its size and the mask given out at its full size, which costs a quarter of what a U-Net at
full size does. What finds tumor is the encoder, and a coarse pyramid on it; the served detector is only that part.
Sources: Zhang et al. 2018, arXiv:1711.10684 (residual U-Net); Lin et al. 2016, arXiv:1612.03144 (pyramid).
"""

import keras

from gliogate.contract import CHANNELS
from training.models.clahe import CLAHE
from training.models.copies import BlankCopies
from training.models.foreground import ForegroundStandardization
from training.models.layers import DropChannel

PYRAMID_WIDTH = 64


def flagship(
    *,
    size: int | None = 256,
    filters: tuple[int, ...] = (16, 32, 64, 128, 256),
    depths: tuple[int, ...] = (1, 1, 2, 3, 2),
    dropout: float = 0.3,
    clahe: bool = False,
) -> keras.Model:
    """uint8 slices (B, S, S, 3) in; logits `tumor` (B, 1), `where` (B, S/8, S/8) and `mask` (B, S, S) out.

    Args:
        size: S, a multiple of 32, or None for any.
        filters: channels at 1/2, 1/4, … of the slice's size; `where` is made from the last three.
        depths: residual blocks of the encoder at each.
        dropout: before the layer that decides on tumor.
        clahe: equalize contrast before the network.
    """
    image = keras.Input((size, size, len(CHANNELS)), dtype="uint8", name="image")
    x = CLAHE(name="clahe")(image) if clahe else image
    x = ForegroundStandardization(name="standardize")(BlankCopies(name="blank_copies")(x))
    x = keras.layers.Conv2D(filters[0], 6, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = keras.layers.ReLU()(_normalized(x))
    features = []
    for level, (width, depth) in enumerate(zip(filters, depths, strict=True)):
        if level:
            x = keras.layers.MaxPooling2D(2)(x)
        for _ in range(depth):
            x = _residual_block(x, width)
        features.append(x)

    pyramid = _pyramid(features[-3:])
    where = keras.layers.Conv2D(1, 1, dtype="float32", name="where_logits")(pyramid)
    # A small tumor drowns in an average: the strongest response stands beside it.
    evidence = [keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(pyramid)]
    tumor = keras.layers.Dropout(dropout)(keras.layers.Concatenate(name="evidence")(evidence))
    tumor = keras.layers.Dense(1, dtype="float32", name="tumor")(tumor)

    for width, skip in zip(reversed(filters[:-1]), reversed(features[:-1]), strict=True):
        x = keras.layers.Conv2D(width, 1, use_bias=False)(x)
        x = keras.layers.UpSampling2D(2, interpolation="nearest")(x)
        x = _residual_block(keras.layers.Concatenate()([x, skip]), width)
    mask = keras.layers.Conv2DTranspose(1, 2, strides=2, dtype="float32", name="mask_logits")(x)
    outputs = {"tumor": tumor, "where": DropChannel(name="where")(where), "mask": DropChannel(name="mask")(mask)}
    return keras.Model(image, outputs, name="flagship")


def _pyramid(features: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Coarse features, which know more, handed down to finer ones, which know better where."""
    laterals = [keras.layers.Conv2D(PYRAMID_WIDTH, 1)(x) for x in features]
    x = laterals.pop()
    while laterals:
        x = keras.layers.Add()([keras.layers.UpSampling2D(2)(x), laterals.pop()])
    x = keras.layers.Conv2D(PYRAMID_WIDTH, 3, padding="same", use_bias=False)(x)
    return keras.layers.ReLU(name="pyramid")(_normalized(x))


def _residual_block(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    shortcut = x
    if x.shape[-1] != width:
        shortcut = _normalized(keras.layers.Conv2D(width, 1, use_bias=False)(x))
    x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU()(_normalized(x))
    x = _normalized(keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x))
    return keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))


def _normalized(x: keras.KerasTensor) -> keras.KerasTensor:
    # The averages keep up with a schedule of a thousand steps.
    return keras.layers.BatchNormalization(momentum=0.98)(x)
