"""What every network of a published recipe has to keep, whatever is inside; on thin ones, but for the slow test."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from support.thin_networks import MOBILENETV2, RESNET50, use_thin_networks

from training.errors import RecipeError
from training.models.mobilenetv2 import mobilenetv2_detector, mobilenetv2_unet
from training.models.mobilenetv2_multitask import mobilenetv2_multitask
from training.models.pretrained import backbone
from training.models.resnet50 import resnet50_detector
from training.models.resnet50_unet import resnet50_unet
from training.models.resunet import resunet_segmenter
from training.models.resunet_multitask import resunet_multitask

DETECTORS = {
    "resnet50_detector": resnet50_detector,
    "mobilenetv2_detector": mobilenetv2_detector,
}
SEGMENTERS = {
    "resunet_segmenter": resunet_segmenter,
    "resunet_segmenter, clahe": partial(resunet_segmenter, clahe=True),
    "resnet50_unet": resnet50_unet,
    "mobilenetv2_unet": mobilenetv2_unet,
}
BOTH = {
    "resunet_multitask": resunet_multitask,
    "mobilenetv2_multitask": mobilenetv2_multitask,
}
NETWORKS = DETECTORS | SEGMENTERS | BOTH
SHAPES = {"tumor": (1,), "where": (16, 16), "mask": (128, 128)}
"""Of each output for a slice of 128 x 128."""

THIN = {
    "resunet_segmenter": partial(resunet_segmenter, filters=(4, 8, 8)),
    "resunet_segmenter, clahe": partial(resunet_segmenter, filters=(4, 8, 8), clahe=True),
    "resunet_multitask": partial(resunet_multitask, filters=(4, 4, 8, 8, 8), depths=(1, 1, 1, 1, 1)),
    "mobilenetv2_multitask": partial(mobilenetv2_multitask, widths=(8, 8, 8, 8)),
}
"""Those whose options make them thin; the others are so by their backbones."""

Builder = Callable[..., keras.Model]


@pytest.fixture
def thin(monkeypatch: pytest.MonkeyPatch) -> None:
    use_thin_networks(monkeypatch)


def test_thin_backbones_have_the_layers_of_the_real_ones_where_they_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    image = keras.Input((64, 64, 3))
    names = {"ResNet50": RESNET50, "MobileNetV2": MOBILENETV2}
    real = {
        name: getattr(keras.applications, name)(include_top=False, weights=None, input_tensor=image) for name in names
    }
    use_thin_networks(monkeypatch)
    for name, steps in names.items():
        stand_in = getattr(keras.applications, name)(input_tensor=image)
        for layer in (layer for step in steps for layer in step):
            shapes = [network.get_layer(layer).output.shape for network in (real[name], stand_in)]
            assert shapes[0][:3] == shapes[1][:3], layer


@pytest.fixture
def half_precision():
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_answers_as_keras(name: str, slices: np.ndarray, onnx_answers: Callable) -> None:
    """Of thin ones those outputs that are served are proven in `test_recipes.py`."""
    images = np.ascontiguousarray(slices[:, 64:192, 64:192])
    network = NETWORKS[name](size=128)
    answers = network.predict_on_batch(images)
    assert {output: answer.shape[1:] for output, answer in answers.items()} == {key: SHAPES[key] for key in answers}
    exported = onnx_answers(network, images)
    assert set(exported) == set(answers)
    for output, answer in answers.items():
        assert answer.std() > 0
        np.testing.assert_allclose(exported[output], answer, atol=1e-3)


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("builder", [mobilenetv2_unet, THIN["resunet_segmenter, clahe"]])
def test_a_saved_network_is_the_same_when_loaded(builder: Builder, slices: np.ndarray, tmp_path: Path) -> None:
    network = builder(size=None)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(loaded(slices)["mask"], network(slices)["mask"], atol=1e-5)


@pytest.mark.usefixtures("half_precision", "thin")
@pytest.mark.parametrize("builder", (NETWORKS | THIN).values(), ids=NETWORKS)
def test_built_for_any_size_it_gives_float32_logits_in_16_bits_too(builder: Builder, slices: np.ndarray) -> None:
    network = builder(size=None)
    for size in (128, 64):
        for name, answer in network(slices[:2, :size, :size]).items():
            assert answer.dtype == "float32"
            assert answer.shape == (2, *(side if side == 1 else side * size // 128 for side in SHAPES[name]))
            assert np.isfinite(answer).all()


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("builder", DETECTORS.values(), ids=DETECTORS)
def test_detectors_say_tumor(builder: Builder) -> None:
    assert "tumor" in builder().output


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("builder", SEGMENTERS.values(), ids=SEGMENTERS)
def test_segmenters_say_mask(builder: Builder) -> None:
    assert set(builder().output) == {"mask"}


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("builder", BOTH.values(), ids=BOTH)
def test_networks_for_both_tasks_share_what_detects(builder: Builder) -> None:
    network = builder()
    assert set(network.output) == set(SHAPES)
    detector, segmenter = (keras.Model(network.input, network.output[output]) for output in ("tumor", "mask"))
    shared = {layer.name for layer in detector.layers} & {layer.name for layer in segmenter.layers if layer.weights}
    assert len(shared) > len([layer for layer in detector.layers if layer.weights]) / 2


@pytest.mark.parametrize(
    ("builder", "size", "multiple"),
    [
        (resnet50_detector, 224, 64),
        (resunet_segmenter, 250, 16),
        (resnet50_unet, 0, 32),
        (mobilenetv2_unet, 100, 32),
        (mobilenetv2_multitask, 240, 32),
    ],
)
def test_a_size_that_does_not_halve_is_refused(builder: Builder, size: int, multiple: int) -> None:
    with pytest.raises(RecipeError, match=f"size: {size}, expected a multiple of {multiple} pixels"):
        builder(size=size)


@pytest.mark.parametrize("builder", [resnet50_detector, resnet50_unet])
def test_weights_that_do_not_exist_are_refused(builder: Builder) -> None:
    with pytest.raises(RecipeError, match="weights: imagnet, expected imagenet or none"):
        builder(weights="imagnet")


def test_a_download_that_fails_is_one_clear_error() -> None:
    """Keras raises a bare Exception; a test cannot count on having no network, so this stands for Keras's."""

    def unreachable(**_: object) -> keras.Model:
        raise Exception("URL fetch failure")

    with pytest.raises(RecipeError, match=r"imagenet cannot be had \(URL fetch failure\); without weights"):
        backbone(unreachable, keras.Input((224, 224, 3)), weights="imagenet")
