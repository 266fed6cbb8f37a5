"""MobileNetV2 with folded weights, against the architecture as the paper has it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import keras
import numpy as np
import pytest
from keras import ops

from training.errors import RecipeError
from training.models.mobilenetv2 import mobilenetv2_detector, mobilenetv2_unet

BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2 of arXiv:1801.04381: expansion, output channels, repeats, stride."""


class Convolution(NamedTuple):
    depthwise: bool
    shape: tuple[int, ...]
    stride: int
    relu6: bool

    def key(self, index: int) -> str:
        return f"{index:02d}_{'dw' if self.depthwise else 'conv'}_k"


def convolutions() -> Iterator[Convolution]:
    yield Convolution(False, (3, 3, 3, 32), 2, True)
    width = 32
    for expansion, out, repeats, stride in BLOCKS:
        for repeat in range(repeats):
            inner = width * expansion
            if expansion > 1:
                yield Convolution(False, (1, 1, width, inner), 1, True)
            yield Convolution(True, (3, 3, inner, 1), stride if repeat == 0 else 1, True)
            yield Convolution(False, (1, 1, inner, out), 1, False)
            width = out
    yield Convolution(False, (1, 1, width, 1280), 1, True)


def folded_features(arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """What comes before the global average, by convolutions with bias and nothing else."""
    block = None
    for index, convolution in enumerate(convolutions()):
        convolve = ops.depthwise_conv if convolution.depthwise else ops.conv
        x = convolve(x, arrays[convolution.key(index)], strides=convolution.stride, padding="same")
        x = x + arrays[f"{index:02d}_b"]
        if convolution.relu6:
            x = ops.relu6(x)
            continue
        if block is not None and block.shape == x.shape:
            x = x + block
        block = x
    return np.asarray(x)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    rng, made = np.random.default_rng(0), {}
    for index, convolution in enumerate(convolutions()):
        fan_in = np.prod(convolution.shape[:2] if convolution.depthwise else convolution.shape[:3])
        made[convolution.key(index)] = rng.normal(0, np.sqrt(2 / fan_in), convolution.shape).astype(np.float32)
        channels = convolution.shape[2 if convolution.depthwise else 3]
        made[f"{index:02d}_b"] = rng.normal(0, 0.3, channels).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def weights(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2.npz"
    np.savez(path, **arrays)
    return path


def test_the_network_computes_what_the_folded_convolutions_do(
    arrays: dict[str, np.ndarray], weights: Path, slices: np.ndarray
) -> None:
    flair = np.stack([cv2.resize(image[..., 1].astype(np.float32), (224, 224)) for image in slices])
    expected = folded_features(arrays, np.repeat(flair[..., None] / 127.5 - 1, 3, axis=-1))

    detector = mobilenetv2_detector(weights=str(weights))
    features = keras.Model(detector.input, detector.get_layer("out_relu").output)
    np.testing.assert_allclose(features(slices), expected, atol=1e-3)
    assert expected.std() > 0.5


def test_training_on_starts_from_what_was_learned(weights: Path, slices: np.ndarray) -> None:
    """Batch normalization with statistics of the batch would undo the folded weights."""
    detector = mobilenetv2_detector(weights=str(weights))
    told, told_in_training = (detector(slices, training=training)["tumor"] for training in (False, True))
    np.testing.assert_allclose(told_in_training, told, atol=1e-4)
    assert any(variable.path.startswith("Conv1/") for variable in detector.trainable_variables)


def test_the_unets_encoder_is_frozen_with_weights_and_learns_without(weights: Path) -> None:
    def learning_layers(network: keras.Model) -> set[str]:
        return {layer.name for layer in network.layers if layer.trainable_variables}

    encoder = {layer.name for layer in mobilenetv2_detector().layers if layer.weights} - {"tumor"}
    assert not encoder & learning_layers(mobilenetv2_unet(weights=str(weights)))
    assert "Conv1" in learning_layers(mobilenetv2_unet())


def test_other_channels_than_flair_say_nothing(slices: np.ndarray) -> None:
    detector = mobilenetv2_detector()
    blind = slices.copy()
    blind[..., [0, 2]] = 0
    np.testing.assert_array_equal(detector(slices)["tumor"], detector(blind)["tumor"])
    assert np.any(detector(slices)["tumor"] != detector(np.zeros_like(slices))["tumor"])


def test_a_file_that_is_missing_is_named() -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.npz: no such file; expected an \.npz"):
        mobilenetv2_detector(weights="nowhere.npz")


def test_a_file_that_is_no_npz_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_text("<html>")
    with pytest.raises(RecipeError, match=r"weights\.npz: cannot be read as an \.npz file"):
        mobilenetv2_detector(weights=str(path))


def test_a_layer_of_another_shape_is_named(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **(arrays | {"04_dw_k": np.zeros((3, 3, 48, 1), np.float32)}))
    message = r"04_dw_k \(block_1_depthwise\) has shape \(3, 3, 48, 1\), expected \(3, 3, 96, 1\)"
    with pytest.raises(RecipeError, match=message):
        mobilenetv2_detector(weights=str(tmp_path / "w.npz"))


def test_a_layer_that_is_missing_is_named(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{key: value for key, value in arrays.items() if key != "51_b"})
    with pytest.raises(RecipeError, match=r"no 51_b \(Conv_1\), expected one of shape \(1280,\)"):
        mobilenetv2_detector(weights=str(tmp_path / "w.npz"))
