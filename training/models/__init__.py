"""The networks, by the names that recipes call them by.

Each takes uint8 slices (B, S, S, 3) as they are on the wire, normalizes them itself, and answers with a dict of logits,
of `tumor` (B, 1), `where` (B, S/8, S/8) and `mask` (B, S, S) those that it knows. `where` is a coarse mask: it is only
for training, where it tells a detector so much more than one bit a slice.
"""

from collections.abc import Callable

import keras

from training.models.mobilenetv2 import mobilenetv2_detector, mobilenetv2_unet
from training.models.mobilenetv2_multitask import mobilenetv2_multitask
from training.models.resnet50 import resnet50_detector
from training.models.resnet50_unet import resnet50_unet
from training.models.resunet import resunet_segmenter
from training.models.resunet_multitask import resunet_multitask

__all__ = ["NETWORKS", "WHERE_STRIDE"]

WHERE_STRIDE = 8
"""Pixels a side of each cell of `where`."""

NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "mobilenetv2_detector": mobilenetv2_detector,
    "mobilenetv2_multitask": mobilenetv2_multitask,
    "mobilenetv2_unet": mobilenetv2_unet,
    "resnet50_detector": resnet50_detector,
    "resnet50_unet": resnet50_unet,
    "resunet_multitask": resunet_multitask,
    "resunet_segmenter": resunet_segmenter,
}
