"""The detector: ResNet50 on the slice at half its size, with a feature pyramid that is taught where the tumor is.

Sources: He et al. 2015, arXiv:1512.03385; Lin et al. 2016, arXiv:1612.03144.
"""

import keras

from gliogate.contract import CHANNELS, SLICE_SIZE
from training.models.layers import DropChannel, SliceStandardization

STAGES = ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out")
"""The backbone's stages, from fine to coarse: 32, 16, 8 and 4 cells a side."""

PYRAMID_WIDTH = 64


def resnet50_detector(*, weights: str | None = None, dropout: float = 0.3) -> keras.Model:
    """uint8 slices (B, 256, 256, 3) in; `tumor` logit (B, 1) and `where` logits (B, 32, 32) out.

    `where` is for training only, and the exported detector is cut at `tumor`. A mask says so much more than one bit a
    slice that a network without pre-training learns from a thousand of them what it else would not. The last layer sees
    the pyramid's strongest response beside the average of the whole, since a small tumor drowns in an average.

    Args:
        weights: `imagenet` (downloaded by Keras) or None, from scratch.
        dropout: before the last layer.
    """
    image = keras.Input((SLICE_SIZE, SLICE_SIZE, len(CHANNELS)), dtype="uint8", name="image")
    x = SliceStandardization(name="standardize")(image)
    x = keras.layers.AveragePooling2D(2, name="half_size")(x)
    backbone = keras.applications.ResNet50(include_top=False, weights=weights, input_tensor=x)
    pyramid = _pyramid([backbone.get_layer(stage).output for stage in STAGES])

    evidence = keras.layers.Concatenate(name="evidence")(
        [keras.layers.GlobalAveragePooling2D()(backbone.output), keras.layers.GlobalMaxPooling2D()(pyramid)]
    )
    tumor = keras.layers.Dropout(dropout)(evidence)
    tumor = keras.layers.Dense(1, dtype="float32", name="tumor")(tumor)
    where = DropChannel(name="where")(keras.layers.Conv2D(1, 1, name="where_logits")(pyramid))
    return keras.Model(image, {"tumor": tumor, "where": where}, name="resnet50_detector")


def _pyramid(stages: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Coarse features, which know more, handed down to the finest stage, which knows better where."""
    laterals = [keras.layers.Conv2D(PYRAMID_WIDTH, 1)(stage) for stage in stages]
    x = laterals.pop()
    while laterals:
        x = keras.layers.Add()([keras.layers.UpSampling2D(2)(x), laterals.pop()])
    x = keras.layers.Conv2D(PYRAMID_WIDTH, 3, padding="same", use_bias=False)(x)
    return keras.layers.ReLU(name="pyramid")(keras.layers.BatchNormalization()(x))
