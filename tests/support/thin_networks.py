"""Backbones and decoders of a few channels, in the place of the recipes': what is done with them is the recipes' own.

Each backbone has the layers that the networks take features from, by the same names and at the same steps.
"""

from collections.abc import Sequence
from importlib import import_module

import keras
import pytest

CHANNELS = 4

RESNET50 = (
    ("conv1_relu",),
    ("conv2_block3_out",),
    ("conv3_block4_out",),
    ("conv4_block6_out",),
    ("conv5_block3_out",),
)
"""The layers' names at 2, 4, 8, 16 and 32 pixels a cell."""

MOBILENETV2 = (
    ("expanded_conv_project_BN", "block_1_expand_relu"),
    ("block_2_add", "block_3_expand_relu"),
    ("block_5_add", "block_6_expand_relu"),
    ("block_12_add", "block_13_expand_relu"),
    ("block_16_project_BN", "out_relu"),
)


def use_thin_networks(patch: pytest.MonkeyPatch) -> None:
    """Has every network that is built from now on be made of such."""
    for name, steps in (("ResNet50", RESNET50), ("MobileNetV2", MOBILENETV2)):

        def build(
            *, input_tensor: keras.KerasTensor, steps: Sequence[Sequence[str]] = steps, **_: object
        ) -> keras.Model:
            return _backbone(input_tensor, steps)

        patch.setattr(keras.applications, name, build)
    for network in ("mobilenetv2", "resnet50_unet"):
        patch.setattr(import_module(f"training.models.{network}"), "WIDTHS", (CHANNELS,) * 5)


def _backbone(image: keras.KerasTensor, steps: Sequence[Sequence[str]]) -> keras.Model:
    x = image
    for names in steps:
        x = keras.layers.Conv2D(CHANNELS, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        for name in names:
            x = keras.layers.ReLU(name=name)(x)
    return keras.Model(keras.utils.get_source_inputs(image), x)
