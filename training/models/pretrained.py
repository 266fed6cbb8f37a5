"""Backbones of `keras.applications`, and where their weights come from."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from training.errors import RecipeError


def backbone(application: Callable[..., keras.Model], image: keras.KerasTensor, *, weights: str | None) -> keras.Model:
    """A backbone without its head, on this tensor.

    Args:
        application: of `keras.applications`.
        image: what it is to see, float32 (B, S, S, 3).
        weights: `imagenet` (downloaded by Keras, once) or None, from scratch.

    Raises:
        RecipeError: `weights` is neither, or the download failed.
    """
    if weights not in (None, "imagenet"):
        raise RecipeError(f"weights: {weights}, expected imagenet or none")
    try:
        return application(include_top=False, weights=weights, input_tensor=image)
    except Exception as error:
        if weights is None:
            raise
        # Keras raises a bare Exception where a download fails.
        raise RecipeError(
            f"weights: imagenet cannot be had ({error}); without weights it trains from scratch"
        ) from error


def load_folded(network: keras.Model, path: Path) -> None:
    """Loads convolutions that have the batch normalization after them folded in.

    The file holds, for the i-th convolution of the network, `<i>_conv_k` or, where it is depthwise, `<i>_dw_k`, its
    kernel, and `<i>_b`, its bias; i has two digits. Each batch normalization then only adds that bias: it gets scale 1
    and statistics that change nothing. See `freeze_statistics` for training on.

    Args:
        network: convolutions without bias, each with a batch normalization after it.
        path: the .npz file.

    Raises:
        RecipeError: the file is missing or no .npz, or lacks an array, or has one of another shape.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: no such file; expected an .npz of folded convolutions")
    if not zipfile.is_zipfile(path):
        raise RecipeError(f"{path}: cannot be read as an .npz file")
    convolutions = [layer for layer in network.layers if hasattr(layer, "kernel")]
    normalizations = _normalizations(network)
    with np.load(path) as arrays:

        def array(key: str, layer: keras.layers.Layer, expected: tuple[int, ...]) -> np.ndarray:
            if key not in arrays:
                raise RecipeError(f"{path}: no {key} ({layer.name}), expected one of shape {expected}")
            if arrays[key].shape != expected:
                raise RecipeError(f"{path}: {key} ({layer.name}) has shape {arrays[key].shape}, expected {expected}")
            return arrays[key]

        for index, (convolution, normalization) in enumerate(zip(convolutions, normalizations, strict=True)):
            kind = "dw" if isinstance(convolution, keras.layers.DepthwiseConv2D) else "conv"
            kernel = array(f"{index:02d}_{kind}_k", convolution, tuple(convolution.kernel.shape))
            bias = array(f"{index:02d}_b", convolution, tuple(normalization.beta.shape))
            convolution.set_weights([kernel])
            variance = np.full_like(bias, 1 - normalization.epsilon)
            normalization.set_weights([np.ones_like(bias), bias, np.zeros_like(bias), variance])


def freeze_statistics(network: keras.Model) -> None:
    """Keeps every batch normalization as it is loaded, also in training.

    With the normalization folded into the kernels, what comes out of a convolution has the scale that the next one
    expects. Statistics of a batch would bring each channel to deviation 1 instead, and what was learned would be lost
    at the first step. Those of a network that is not folded are better than a small batch's too.
    """
    for layer in _normalizations(network):
        layer.trainable = False


def quicken_statistics(network: keras.Model, *, momentum: float = 0.99) -> None:
    """Has the averages of batch normalization keep up with a run of some hundred steps."""
    for layer in _normalizations(network):
        layer.momentum = momentum


def _normalizations(network: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
