"""A head is nearly its own mirror image: asked about both, a network errs less."""

import keras
from keras import ops

from training.models.layers import mirror_image


@keras.saving.register_keras_serializable("gliogate")
class Mirrored(keras.layers.Layer):
    """The mean of what a network says of slices and of their mirror images, at twice the arithmetic.

    Args:
        network: uint8 slices (B, H, W, 3) in; logits (B, 1) of a slice, or (B, H, W) of its pixels, out.
    """

    def __init__(self, network: keras.Model, **kwargs: object) -> None:
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.network = network

    def call(self, slices):  # noqa: D102
        # One batch of both, so that the exported graph holds the network once.
        both = self.network(ops.concatenate([slices, mirror_image(slices)]))
        count = ops.shape(slices)[0]
        straight, mirrored = both[:count], both[count:]
        return (straight + (mirror_image(mirrored) if len(both.shape) > 2 else mirrored)) / 2
