"""The detector: ResNet50 on the slice at half its size, with a feature pyramid that is taught where the tumor is.

Sources: He et al. 2015, arXiv:1512.03385; Lin et al. 2016, arXiv:1612.03144.
"""

import keras

from training.models.ends import image_input, standardized
from training.models.layers import DropChannel
from training.models.pretrained import backbone

STAGES = ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out")
"""The backbone's stages, from fine to coarse: at 256 pixels 32, 16, 8 and 4 cells a side."""

PYRAMID_WIDTH = 64


def resnet50_detector(
    *, size: int | None = 256, weights: str | None = None, dropout: float = 0.3, clahe: bool = False
) -> keras.Model:
    """uint8 slices (B, S, S, 3) in; `tumor` logit (B, 1) and `where` logits (B, S/8, S/8) out.

    `where` is for training only, and the exported detector is cut at `tumor`. A mask says so much more than one bit a
    slice that a network without pre-training learns from a thousand of them what it else would not. The last layer sees
    the pyramid's strongest response beside the average of the whole, since a small tumor drowns in an average.

    Args:
        size: S, a multiple of 64, or None for any.
        weights: `imagenet` (downloaded by Keras) or None, from scratch.
        dropout: before the last layer.
        clahe: equalize contrast before the network.

    Raises:
        RecipeError: the size is no such multiple, or there are no such weights.
    """
    image = image_input(size, multiple=64)
    x = keras.layers.AveragePooling2D(2, name="half_size")(standardized(image, clahe=clahe))
    features = backbone(keras.applications.ResNet50, x, weights=weights)
    pyramid = _pyramid([features.get_layer(stage).output for stage in STAGES])

    evidence = keras.layers.Concatenate(name="evidence")(
        [keras.layers.GlobalAveragePooling2D()(features.output), keras.layers.GlobalMaxPooling2D()(pyramid)]
    )
    tumor = keras.layers.Dropout(dropout)(evidence)
    tumor = keras.layers.Dense(1, dtype="float32", name="tumor")(tumor)
    where = keras.layers.Conv2D(1, 1, dtype="float32", name="where_logits")(pyramid)
    return keras.Model(image, {"tumor": tumor, "where": DropChannel(name="where")(where)}, name="resnet50_detector")


def _pyramid(stages: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Coarse features, which know more, handed down to the finest stage, which knows better where."""
    laterals = [keras.layers.Conv2D(PYRAMID_WIDTH, 1)(stage) for stage in stages]
    x = laterals.pop()
    while laterals:
        x = keras.layers.Add()([keras.layers.UpSampling2D(2)(x), laterals.pop()])
    x = keras.layers.Conv2D(PYRAMID_WIDTH, 3, padding="same", use_bias=False)(x)
    return keras.layers.ReLU(name="pyramid")(keras.layers.BatchNormalization()(x))
