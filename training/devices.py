"""Every GPU of this machine, with either backend."""

from contextlib import AbstractContextManager, nullcontext

import keras


def all_devices() -> AbstractContextManager[object]:
    """A context in which a network is built so that each batch is shared out over all GPUs; no-op with one or none.

    The batch size is that of all of them together.
    """
    if keras.backend.backend() == "jax":
        devices = keras.distribution.list_devices("gpu") if _gpus_of_jax() else []
        if len(devices) > 1:
            keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
        return nullcontext()
    import tensorflow as tf

    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy().scope()  # type: ignore[no-any-return]
    return nullcontext()


def _gpus_of_jax() -> bool:
    import jax

    return jax.default_backend() == "gpu"
