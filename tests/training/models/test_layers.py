"""Layers against what they should compute, in a network that is traced without knowing the size."""

import cv2
import keras
import numpy as np
import pytest

from training.models.layers import ResizeLike, SliceStandardization


def test_each_channel_has_mean_0_and_deviation_1_and_an_empty_one_stays_0(slices: np.ndarray) -> None:
    slices = slices.copy()
    slices[0, ..., 2] = 0
    standardized = np.asarray(SliceStandardization()(slices))
    np.testing.assert_allclose(standardized.mean(axis=(1, 2)), 0, atol=1e-4)
    deviation = standardized.std(axis=(1, 2))
    assert deviation[0, 2] == 0
    np.testing.assert_allclose(np.delete(deviation.ravel(), 2), 1, atol=1e-2)


@pytest.mark.parametrize("size", [160, 224, 256])
def test_resizing_is_opencvs_bilinear(size: int) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 224, 224)).astype(np.float32)
    inputs = keras.Input((224, 224)), keras.Input((None, None, 3), dtype="uint8")
    network = keras.Model(inputs, ResizeLike()(*inputs))
    for side in (96, size):
        resized = network.predict_on_batch([maps, np.zeros((2, side, side, 3), np.uint8)])
        expected = np.stack([cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR) for one in maps])
        np.testing.assert_allclose(resized, expected, atol=1e-4)
