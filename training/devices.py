"""What this machine computes with: every GPU of it, with either backend, and in which precision."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import keras

from gliogate import processor
from training.recipe import Recipe

BFLOAT16 = frozenset({"amx_bf16", "avx512_bf16"})
"""Features of x86-64 processors, by Linux's names, with which TensorFlow computes in bfloat16."""


def all_devices() -> AbstractContextManager[object]:
    """A context in which a network is built so that each batch is shared out over all GPUs; no-op with one or none.

    The batch size is that of all of them together.
    """
    devices = gpus()
    if len(devices) < 2:
        return nullcontext()
    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
        return nullcontext()
    return _mirrored(*devices).scope()  # type: ignore[no-any-return]


@cache
def _mirrored(*devices: str) -> Any:
    """A `tf.distribute.MirroredStrategy`, one for all networks of this process.

    A second would number its exchanges anew, and meet those of the first.
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices)


def precision_of(recipe: Recipe) -> str:
    """The Keras dtype policy that a recipe is trained with on this machine.

    A processor that has no instructions for bfloat16 emulates them, which is slower than 32 bits by far.
    """
    if recipe.precision != "auto":
        return recipe.precision
    return "mixed_bfloat16" if gpus() or not BFLOAT16.isdisjoint(processor.features()) else "float32"


def gpus() -> list[str]:
    """Their names, as the backend calls them."""
    if keras.backend.backend() == "jax":
        import jax

        return keras.distribution.list_devices("gpu") if jax.default_backend() == "gpu" else []
    import tensorflow as tf

    return [device.name for device in tf.config.list_logical_devices("GPU")]
