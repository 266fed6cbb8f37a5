"""The detector: ResNet50 on the slice at half its size, with a feature pyramid that is taught where the tumor is.

Source: He et al. 2015, arXiv:1512.03385.
"""

import keras

from training.models.detection import detection_logits
from training.models.ends import image_input, standardized
from training.models.pretrained import backbone

STAGES = ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out")
"""The backbone's stages, from fine to coarse: at 256 pixels 32, 16, 8 and 4 cells a side."""


def resnet50_detector(
    *, size: int | None = 256, weights: str | None = None, dropout: float = 0.3, clahe: bool = False
) -> keras.Model:
    """uint8 slices (B, S, S, 3) in; `tumor` logit (B, 1) and `where` logits (B, S/8, S/8) out.

    `where` is for training only, and the exported detector is cut at `tumor`.

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
    stages = [features.get_layer(stage).output for stage in STAGES]
    tumor_and_where = detection_logits(features.output, stages, dropout=dropout)
    return keras.Model(image, tumor_and_where, name="resnet50_detector")
