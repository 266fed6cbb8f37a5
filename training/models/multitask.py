"""What a network ends with that detects tumor and outlines it at once.

The served detector is the encoder and a coarse pyramid on it, without the way up. Source: Lin et al. 2016,
arXiv:1612.03144 (pyramid).
"""

import keras

from training.models.layers import DropChannel

PYRAMID_WIDTH = 64


def detection_logits(
    coarsest: keras.KerasTensor, features: list[keras.KerasTensor], *, dropout: float
) -> dict[str, keras.KerasTensor]:
    """Logits `tumor` (B, 1) and `where`, as large as the first of the features.

    Args:
        coarsest: what the encoder ends with, (B, h, w, C).
        features: of it, from fine to coarse, each of half the resolution of the one before.
        dropout: before the layer that decides on tumor.
    """
    pyramid = _pyramid(features)
    where = keras.layers.Conv2D(1, 1, dtype="float32", name="where_logits")(pyramid)
    # A small tumor drowns in an average: the strongest response stands beside it.
    evidence = [keras.layers.GlobalAveragePooling2D()(coarsest), keras.layers.GlobalMaxPooling2D()(pyramid)]
    tumor = keras.layers.Dropout(dropout)(keras.layers.Concatenate(name="evidence")(evidence))
    tumor = keras.layers.Dense(1, dtype="float32", name="tumor")(tumor)
    return {"tumor": tumor, "where": DropChannel(name="where")(where)}


def mask_logits_from_half(features: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """Logits `mask` (B, S, S) of features (B, S/2, S/2, C): a quarter of what a decoder up to full size costs."""
    logits = keras.layers.Conv2DTranspose(1, 2, strides=2, dtype="float32", name="mask_logits")(features)
    return {"mask": DropChannel(name="mask")(logits)}


def normalized(x: keras.KerasTensor) -> keras.KerasTensor:
    """Batch normalization whose averages keep up with a schedule of a thousand steps."""
    return keras.layers.BatchNormalization(momentum=0.98)(x)


def _pyramid(features: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Coarse features, which know more, handed down to finer ones, which know better where."""
    laterals = [keras.layers.Conv2D(PYRAMID_WIDTH, 1)(x) for x in features]
    x = laterals.pop()
    while laterals:
        x = keras.layers.Add()([keras.layers.UpSampling2D(2)(x), laterals.pop()])
    x = keras.layers.Conv2D(PYRAMID_WIDTH, 3, padding="same", use_bias=False)(x)
    return keras.layers.ReLU(name="pyramid")(normalized(x))
