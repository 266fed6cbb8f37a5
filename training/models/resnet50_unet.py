"""A U-Net with a ResNet50 as its encoder, as the notebooks on the LGG set have it.

Sources: He et al. 2015, arXiv:1512.03385; Ronneberger et al. 2015, arXiv:1505.04597.
"""

import keras

from training.models.decoder import decode
from training.models.ends import image_input, mask_logits, standardized
from training.models.pretrained import backbone

SKIPS = ("conv4_block6_out", "conv3_block4_out", "conv2_block3_out", "conv1_relu")
"""From coarse to fine: 16, 8, 4 and 2 pixels a cell."""

WIDTHS = (256, 128, 64, 32, 16)


def resnet50_unet(*, size: int | None = 256, weights: str | None = None) -> keras.Model:
    """uint8 slices (B, S, S, 3) in; `mask` logits (B, S, S) out.

    ImageNet's weights were learned on another scale of values than that of standardized slices. The whole network is
    trained with batch normalization, which takes that scale out again behind the first convolution.

    Args:
        size: S, a multiple of 32, or None for any.
        weights: the encoder's: `imagenet` (downloaded by Keras) or None, from scratch.

    Raises:
        RecipeError: the size is no such multiple, or there are no such weights.
    """
    image = image_input(size)
    x = standardized(image, clahe=False)
    encoder = backbone(keras.applications.ResNet50, x, weights=weights)
    skips = [*(encoder.get_layer(name).output for name in SKIPS), x]
    return keras.Model(image, {"mask": mask_logits(decode(encoder.output, skips, WIDTHS))}, name="resnet50_unet")
