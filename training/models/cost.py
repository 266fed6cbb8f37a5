"""What a network costs, in arithmetic."""

import math

import keras

from training.models.mirrored import Mirrored


def multiply_adds(network: keras.Model) -> int:
    """Multiplications with additions for one slice, in convolutions and dense layers; the rest is small beside them.

    Every value of a kernel meets every position of the output once, of a transposed convolution's input.

    Args:
        network: for slices of one size.

    Raises:
        ValueError: it takes slices of any size.
        TypeError: it has a layer with a kernel that this does not know how to count.
    """
    return sum(map(_multiply_adds, network.layers))


def _multiply_adds(layer: keras.layers.Layer) -> int:
    match layer:
        case keras.layers.Conv2D() | keras.layers.DepthwiseConv2D() | keras.layers.Dense():
            positions = layer.output.shape[1:-1]
        case keras.layers.Conv2DTranspose():
            positions = layer.input.shape[1:-1]
        case Mirrored():
            return 2 * multiply_adds(layer.network)
        case keras.Model():
            return multiply_adds(layer)
        case _ if any(len(weight.shape) > 1 for weight in layer.weights):
            raise TypeError(f"{layer.name}: how to count a {type(layer).__name__} is not known")
        case _:
            return 0
    if None in positions:
        raise ValueError(f"{layer.name}: output of {positions} positions; the network must be built for one size")
    return math.prod(positions) * math.prod(layer.kernel.shape)
