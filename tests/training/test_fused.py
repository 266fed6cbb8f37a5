"""Batch normalization in one kernel computes what Keras's does, and is nothing that a run leaves behind."""

import keras
import numpy as np
import pytest

from training import fused
from training.fit import build
from training.recipe import Phase, Stage

STAGE = Stage(
    network="resunet_multitask",
    options={"filters": (8, 8, 16, 16, 16), "depths": (1, 1, 1, 1, 1), "dropout": 0.0},
    losses={"tumor": "bce", "where": "bce", "mask": "bce"},
    phases=(Phase(epochs=1, window=64),),
)


def _network(*, frozen: bool) -> keras.Model:
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(image)
    x = keras.layers.BatchNormalization(momentum=0.9, trainable=not frozen)(x)
    x = keras.layers.Conv2D(2, 3, use_bias=False)(keras.layers.ReLU()(x))
    network = keras.Model(image, x)
    generator = np.random.default_rng(1)
    # Statistics and scales as they are somewhere on the way, not the zeros and ones of the start.
    network.set_weights([weight + generator.uniform(0, 0.5, weight.shape) for weight in network.get_weights()])
    return network


def _kinds(network: keras.Model) -> set[type]:
    return {type(layer) for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)}


@pytest.mark.parametrize("frozen", [False, True], ids=["learning", "frozen"])
def test_it_learns_the_same(frozen):
    plain = _network(frozen=frozen)
    quick = fused.with_fused_normalization(plain)
    assert _kinds(quick) == {fused.FusedBatchNormalization}
    generator = np.random.default_rng(2)
    images, answers = (generator.normal(size=shape).astype(np.float32) for shape in ((8, 16, 16, 3), (8, 12, 12, 2)))
    np.testing.assert_allclose(quick.predict(images, verbose=0), plain.predict(images, verbose=0), atol=1e-5)

    for network in (plain, quick):
        network.compile(keras.optimizers.SGD(0.1), loss="mse")
        network.fit(images, answers, epochs=3, shuffle=False, verbose=0)

    # Running variances differ by N / (N - 1) in what a step adds, N being 8 x 14 x 14.
    for ours, keras_own in zip(quick.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-3, atol=1e-5)


def test_it_answers_in_the_precision_of_the_policy():
    layer = fused.FusedBatchNormalization(dtype="mixed_bfloat16")

    outputs = layer(np.ones((2, 4, 4, 3), np.float32), training=True)

    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(layer.moving_mean.dtype) == "float32"


def test_a_stage_is_trained_with_it_and_kept_without():
    training = build(STAGE, steps_per_epoch=1)

    kept = fused.with_plain_normalization(training)

    assert _kinds(training) == {fused.FusedBatchNormalization}
    assert _kinds(kept) == {keras.layers.BatchNormalization}
    assert [layer.name for layer in kept.layers] == [layer.name for layer in training.layers]
    for ours, theirs in zip(kept.get_weights(), training.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_on_a_gpu_the_compiler_does_it(monkeypatch):
    monkeypatch.setattr(fused, "gpus", lambda: ["GPU:0"])
    network = _network(frozen=False)

    assert fused.with_fused_normalization(network) is network
    assert fused.with_plain_normalization(network) is network
