"""One network that learns both tasks at once, and is served as two.

The slice is taken in at half its size and the mask given out at its full size, which costs a quarter of what a U-Net at
full size does. What finds tumor is the encoder, and a coarse pyramid on it; the served detector is only that part.
Source: Zhang et al. 2018, arXiv:1711.10684 (residual U-Net).
"""

import keras

from gliogate.contract import CHANNELS
from training.models.clahe import CLAHE
from training.models.copies import BlankCopies
from training.models.detection import detection_logits
from training.models.ends import mask_logits_from_half
from training.models.foreground import ForegroundStandardization
from training.models.layers import normalized


def resunet_multitask(
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
    x = keras.layers.ReLU()(normalized(x))
    features = []
    for level, (width, depth) in enumerate(zip(filters, depths, strict=True)):
        if level:
            x = keras.layers.MaxPooling2D(2)(x)
        for _ in range(depth):
            x = _residual_block(x, width)
        features.append(x)

    detection = detection_logits(x, features[-3:], dropout=dropout)
    for width, skip in zip(reversed(filters[:-1]), reversed(features[:-1]), strict=True):
        x = keras.layers.Conv2D(width, 1, use_bias=False)(x)
        x = keras.layers.UpSampling2D(2, interpolation="nearest")(x)
        x = _residual_block(keras.layers.Concatenate()([x, skip]), width)
    return keras.Model(image, detection | {"mask": mask_logits_from_half(x)}, name="resunet_multitask")


def _residual_block(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    shortcut = x
    if x.shape[-1] != width:
        shortcut = normalized(keras.layers.Conv2D(width, 1, use_bias=False)(x))
    x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU()(normalized(x))
    x = normalized(keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x))
    return keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))
