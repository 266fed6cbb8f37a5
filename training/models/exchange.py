"""The same network with some of its layers exchanged for others that compute the same."""

from collections.abc import Callable

import keras

from training.models.layers import DoubleSize

Layer = keras.layers.Layer


def exchanged(network: keras.Model, other: Callable[[Layer], Layer | None]) -> keras.Model:
    """A copy of a network, with its weights.

    Args:
        network: of layers alone; those inside of other models are left as they are.
        other: gives what takes a layer's place, with the same weights in the same order, or None, which copies it.
    """

    def copied(layer: Layer) -> Layer:
        return other(layer) or type(layer).from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=copied)
    copy.set_weights(network.get_weights())
    return copy


def with_known_sizes(network: keras.Model) -> keras.Model:
    """A network for slices of one size, whose up-sampling is one operator of ONNX in place of five."""

    def other(layer: Layer) -> Layer | None:
        doubles = type(layer) is keras.layers.UpSampling2D and layer.size == (2, 2) and layer.interpolation == "nearest"
        return DoubleSize(name=layer.name, dtype=layer.dtype_policy) if doubles else None

    return exchanged(network, other)
