"""The two networks. Each takes uint8 slices as they are on the wire and normalizes them itself."""

from training.models.layers import SliceStandardization
from training.models.resnet50 import resnet50_detector
from training.models.resunet import resunet_segmenter

__all__ = ["SliceStandardization", "resnet50_detector", "resunet_segmenter"]
