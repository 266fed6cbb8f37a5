"""A copy of a network with some layers exchanged computes the same."""

import keras
import numpy as np
import onnx

from training.models.exchange import exchanged, with_known_sizes
from training.models.layers import DoubleSize
from training.models.resunet_multitask import resunet_multitask

SMALL = {"filters": (4, 8, 8), "depths": (1, 1, 1)}


def test_up_sampling_of_a_known_size_answers_the_same_in_one_operator(slices, onnx_answers, tmp_path):
    keras.utils.set_random_seed(1)
    slices = np.ascontiguousarray(slices[:, 96:160, 96:160])
    network = resunet_multitask(size=64, **SMALL)
    network = keras.Model(network.input, {"mask": network.output["mask"]})

    known = with_known_sizes(network)

    assert not any(isinstance(layer, keras.layers.UpSampling2D) for layer in known.layers)
    expected = network.predict_on_batch(slices)["mask"]
    np.testing.assert_allclose(known.predict_on_batch(slices)["mask"], expected, atol=1e-6)
    for each, tiles, resizes in ((network, 4, 0), (known, 0, 2)):
        np.testing.assert_allclose(onnx_answers(each, slices)["mask"], expected, atol=1e-4)
        operators = [node.op_type for node in onnx.load(tmp_path / "network.onnx").graph.node]
        assert (operators.count("Tile"), operators.count("Resize")) == (tiles, resizes)


def test_each_value_stands_where_keras_has_it():
    features = np.random.default_rng(1).normal(size=(2, 3, 5, 4)).astype(np.float32)

    np.testing.assert_array_equal(DoubleSize()(features), keras.layers.UpSampling2D(2)(features))


def test_what_is_no_doubling_stays():
    image = keras.Input((8, 8, 1))
    bilinear = keras.layers.UpSampling2D(2, interpolation="bilinear")(image)
    network = keras.Model(image, [bilinear, keras.layers.UpSampling2D((2, 1))(image)])

    kinds = [type(layer) for layer in with_known_sizes(network).layers]

    assert kinds.count(keras.layers.UpSampling2D) == 2


def test_what_takes_a_layers_place_gets_its_weights():
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="first"), keras.layers.Dense(2)])
    network = keras.Model(network.inputs, network.outputs)

    def wrapped(layer):
        return keras.layers.Dense(3, activation="relu", name="other") if layer.name == "first" else None

    copy = exchanged(network, wrapped)

    assert [layer.name for layer in copy.layers[1:]] == ["other", network.layers[2].name]
    for ours, theirs in zip(copy.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
