"""CLAHE as a layer against OpenCV's."""

from collections.abc import Callable

import cv2
import keras
import numpy as np
import pytest

from training.errors import RecipeError
from training.models.clahe import CLAHE
from training.models.resunet_multitask import resunet_multitask


def equalized_by_opencv(images: np.ndarray, clip_limit: float = 2.0, tiles: int = 8) -> np.ndarray:
    clahe = cv2.createCLAHE(clip_limit, (tiles, tiles))
    return np.stack([cv2.merge([clahe.apply(channel) for channel in cv2.split(image)]) for image in images])


def largest_difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(np.asarray(one, int) - np.asarray(other, int)).max())


@pytest.mark.parametrize("size", [128, 256])
def test_it_is_opencvs_to_the_grey_level(slices: np.ndarray, size: int) -> None:
    images = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in slices])
    equalized = CLAHE()(images)
    assert equalized.dtype == "uint8"
    assert largest_difference(equalized, equalized_by_opencv(images)) == 0
    assert largest_difference(equalized, images) > 50


@pytest.mark.parametrize("size", [160, 192, 224])
def test_tiles_of_any_size_are_within_a_grey_level(slices: np.ndarray, size: int) -> None:
    images = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in slices])
    assert largest_difference(CLAHE()(images), equalized_by_opencv(images)) <= 1


@pytest.mark.parametrize(("clip_limit", "tiles"), [(1.0, 4), (3.5, 8), (40.0, 16)])
def test_clip_limit_and_tiles_mean_what_they_do_in_opencv(slices: np.ndarray, clip_limit: float, tiles: int) -> None:
    equalized = CLAHE(clip_limit=clip_limit, tiles=tiles)(slices)
    assert largest_difference(equalized, equalized_by_opencv(slices, clip_limit, tiles)) == 0


def test_extremes() -> None:
    """Black, white, two levels only, and noise: nothing to clip, nearly all clipped."""
    rng = np.random.default_rng(0)
    black, white = np.zeros((256, 256, 3), np.uint8), np.full((256, 256, 3), 255, np.uint8)
    two = rng.choice(np.array([0, 255], np.uint8), (256, 256, 3))
    noise = rng.integers(0, 256, (256, 256, 3), np.uint8)
    images = np.stack([black, white, two, noise])
    assert largest_difference(CLAHE()(images), equalized_by_opencv(images)) == 0


def test_a_network_for_any_size_equalizes_each(slices: np.ndarray) -> None:
    """TensorFlow then traces it without knowing height and width."""
    image = keras.Input((None, None, 3), dtype="uint8")
    network = keras.Model(image, CLAHE()(image))
    for size in (256, 128, 64):
        images = np.ascontiguousarray(slices[:, :size, :size])
        assert largest_difference(network.predict_on_batch(images), equalized_by_opencv(images)) == 0


def test_the_network_sees_the_equalized_slice(slices: np.ndarray) -> None:
    plain, equalizing = (
        resunet_multitask(size=256, filters=(4, 8, 8), depths=(1, 1, 1), clahe=clahe) for clahe in (False, True)
    )
    equalizing.set_weights(plain.get_weights())
    told = equalizing(slices)["mask"]
    np.testing.assert_allclose(told, plain(equalized_by_opencv(slices))["mask"], atol=1e-5)
    assert not np.allclose(told, plain(slices)["mask"], atol=1e-2)


def test_onnx_runtime_gives_the_same(slices: np.ndarray, onnx_answers: Callable) -> None:
    image = keras.Input((256, 256, 3), dtype="uint8", name="image")
    network = keras.Model(image, {"equalized": CLAHE()(image)})
    answers = onnx_answers(network, slices)
    assert largest_difference(answers["equalized"], equalized_by_opencv(slices)) == 0


def test_sides_that_tiles_do_not_divide_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"slices of 250 x 250 pixels, expected sides divisible by 8 tiles"):
        CLAHE()(keras.Input((250, 250, 3), dtype="uint8"))
