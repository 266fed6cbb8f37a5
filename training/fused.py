"""Batch normalization in one kernel, while a network learns on a processor.

Keras writes it as a dozen operations, each of which reads and writes the whole tensor, in 32 bits whatever the policy:
a sixth to a third of a step's time on two cores. TensorFlow has it as one. On a GPU the compiler puts them together by
itself.
"""

from typing import Any

import keras

from training.devices import gpus
from training.models.exchange import exchanged


@keras.saving.register_keras_serializable("gliogate")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """As Keras's, of pictures (B, H, W, C), with TensorFlow. Its running variance is that of a sample, N/(N-1)."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ARG002, D102
        import tensorflow as tf

        learns = bool(training) and self.trainable
        mean, variance = (self.moving_mean.value, self.moving_variance.value)
        outputs, batch_mean, batch_variance = tf.compat.v1.nn.fused_batch_norm(
            keras.ops.cast(inputs, self.compute_dtype),
            tf.cast(self.gamma, "float32"),
            tf.cast(self.beta, "float32"),
            mean=None if learns else mean,
            variance=None if learns else variance,
            epsilon=self.epsilon,
            is_training=learns,
        )
        if learns:
            self.moving_mean.assign(mean * self.momentum + batch_mean * (1 - self.momentum))
            self.moving_variance.assign(variance * self.momentum + batch_variance * (1 - self.momentum))
        return outputs


def with_fused_normalization(model: keras.Model) -> keras.Model:
    """The same network with the same weights, for a processor to train; itself where there is nothing to gain."""
    if keras.backend.backend() != "tensorflow" or gpus():
        return model
    return _with(model, FusedBatchNormalization, in_place_of=keras.layers.BatchNormalization)


def with_plain_normalization(model: keras.Model) -> keras.Model:
    """What `with_fused_normalization` was given, with what it has learned: to be read without this file."""
    if not any(isinstance(layer, FusedBatchNormalization) for layer in model.layers):
        return model
    return _with(model, keras.layers.BatchNormalization, in_place_of=FusedBatchNormalization)


def _with(
    model: keras.Model,
    new: type[keras.layers.BatchNormalization],
    *,
    in_place_of: type[keras.layers.BatchNormalization],
) -> keras.Model:
    return exchanged(model, lambda layer: new.from_config(layer.get_config()) if type(layer) is in_place_of else None)
