"""The mean of two answers, in Keras and in ONNX, and what it costs."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from training.models.cost import multiply_adds
from training.models.layers import DropChannel
from training.models.mirrored import Mirrored

OnnxAnswers = Callable[[keras.Model, np.ndarray], dict[str, np.ndarray]]


def network(*, of_pixels: bool) -> keras.Model:
    """A small network that tells left from right."""
    keras.utils.set_random_seed(0)
    image = keras.Input((256, 256, 3), dtype="uint8", name="image")
    x = keras.layers.Conv2D(4, 5, padding="same", activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    if of_pixels:
        return keras.Model(image, DropChannel()(keras.layers.Conv2D(1, 3, padding="same")(x)))
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(keras.layers.MaxPooling2D(64)(x))))


def asked_twice(once: keras.Model) -> keras.Model:
    image = keras.Input((256, 256, 3), dtype="uint8", name="image")
    return keras.Model(image, {"answer": Mirrored(once)(image)})


def test_pixels_are_averaged_where_they_belong(slices: np.ndarray, onnx_answers: OnnxAnswers) -> None:
    once = network(of_pixels=True)
    straight, mirrored = (np.asarray(once(images)) for images in (slices, np.ascontiguousarray(slices[:, :, ::-1])))
    assert np.abs(straight - mirrored[:, :, ::-1]).max() > 0.01
    expected = (straight + mirrored[:, :, ::-1]) / 2
    np.testing.assert_allclose(asked_twice(once).predict_on_batch(slices)["answer"], expected, atol=1e-5)
    np.testing.assert_allclose(onnx_answers(asked_twice(once), slices)["answer"], expected, atol=1e-4)


def test_a_slice_and_its_mirror_image_get_the_same_answer(slices: np.ndarray, onnx_answers: OnnxAnswers) -> None:
    twice = asked_twice(network(of_pixels=False))
    mirrored = np.ascontiguousarray(slices[:, :, ::-1])
    answers = onnx_answers(twice, slices)["answer"]
    assert answers.shape == (4, 1)
    np.testing.assert_allclose(answers, onnx_answers(twice, mirrored)["answer"], atol=1e-5)


def test_it_costs_twice_as_much() -> None:
    once = network(of_pixels=True)
    assert multiply_adds(asked_twice(once)) == 2 * multiply_adds(once) > 0


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_slices_may_come(slices: np.ndarray, onnx_answers: OnnxAnswers, count: int) -> None:
    assert onnx_answers(asked_twice(network(of_pixels=True)), slices[:count])["answer"].shape == (count, 256, 256)
