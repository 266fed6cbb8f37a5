"""One network for both tasks on a MobileNetV2 that is trained along from ImageNet's weights.

It sees the slice at the size that it has, its three sequences as the three colours, and gives the mask out from half
that size. Sources: Sandler et al. 2018, arXiv:1801.04381; Ronneberger et al. 2015, arXiv:1505.04597.
"""

import keras

from training.models.copies import BlankCopies
from training.models.decoder import decode
from training.models.detection import detection_logits
from training.models.ends import image_input, mask_logits_from_half
from training.models.foreground import ForegroundStandardization
from training.models.mobilenetv2 import mobilenetv2_encoder

FEATURES = ("expanded_conv_project_BN", "block_2_add", "block_5_add", "block_12_add", "block_16_project_BN")
"""From fine to coarse, 2, 4, 8, 16 and 32 pixels a cell: where the network is narrow, which makes skips cheap."""

COLOUR_DEVIATION = 0.5
"""Of what ImageNet's weights were shown, about: pictures in [-1, 1]."""

WIDTHS = (96, 48, 32, 16)


def mobilenetv2_multitask(
    *, size: int | None = 256, weights: str | None = None, widths: tuple[int, ...] = WIDTHS, dropout: float = 0.3
) -> keras.Model:
    """uint8 slices (B, S, S, 3) in; logits `tumor` (B, 1), `where` (B, S/8, S/8) and `mask` (B, S, S) out.

    Args:
        size: S, a multiple of 32, or None for any.
        weights: the encoder's, as `mobilenetv2_detector` takes them.
        widths: channels of the way up, at 1/16, 1/8, 1/4 and 1/2 of the slice's size.
        dropout: before the layer that decides on tumor.

    Raises:
        RecipeError: the size is no such multiple, or the weights cannot be had.
    """
    image = image_input(size)
    x = ForegroundStandardization(name="standardize")(BlankCopies(name="blank_copies")(image))
    x = keras.layers.Rescaling(COLOUR_DEVIATION, name="colour")(x)
    encoder = mobilenetv2_encoder(x, weights)
    features = [encoder.get_layer(name).output for name in FEATURES]
    detection = detection_logits(features[-1], features[-3:], dropout=dropout)
    *skips, coarsest = features
    x = decode(coarsest, skips[::-1], widths)
    return keras.Model(image, detection | {"mask": mask_logits_from_half(x)}, name="mobilenetv2_multitask")
