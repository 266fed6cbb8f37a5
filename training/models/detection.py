"""How an encoder's features become evidence of tumor: by a coarse pyramid, which is taught where the tumor is.

A mask says so much more than one bit a slice that a network without pre-training learns from a thousand of them what it
else would not. Source: Lin et al. 2016, arXiv:1612.03144 (pyramid).
"""

import keras

from training.models.layers import DropChannel, normalized

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


def _pyramid(features: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Coarse features, which know more, handed down to finer ones, which know better where."""
    laterals = [keras.layers.Conv2D(PYRAMID_WIDTH, 1)(x) for x in features]
    x = laterals.pop()
    while laterals:
        x = keras.layers.Add()([keras.layers.UpSampling2D(2)(x), laterals.pop()])
    x = keras.layers.Conv2D(PYRAMID_WIDTH, 3, padding="same", use_bias=False)(x)
    return keras.layers.ReLU(name="pyramid")(normalized(x))
