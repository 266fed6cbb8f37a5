"""The last layer of a segmenter: from its logits to logits whose sigmoid is the probability that it says."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("gliogate")
class CalibratedLogits(keras.layers.Layer):
    """offset + slope · x + rise · relu(x - knot) - fall · relu(-x - knot), in 32 bits, of logits of any shape.

    Before that, logits below 0 are multiplied with `below`, by which those of one network get the scale of others'.

    A network is surer of itself at the rim of a tumor than it has reason to be, and as sure inside and outside as it
    should be: a straight line in the logits, Platt's, cannot make up for that, and this one with two bends does.
    """

    def __init__(
        self,
        slope: float,
        offset: float,
        rise: float,
        fall: float,
        knot: float,
        *,
        below: float = 1.0,
        **kwargs: object,
    ) -> None:
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.slope, self.offset, self.rise, self.fall, self.knot = slope, offset, rise, fall, knot
        self.below = below

    def call(self, x):  # noqa: D102
        x = ops.relu(x) - self.below * ops.relu(-x)
        bends = self.rise * ops.relu(x - self.knot) - self.fall * ops.relu(-x - self.knot)
        return self.slope * x + bends + self.offset

    def get_config(self) -> dict[str, object]:
        """The arguments that make this layer again."""
        own = {name: getattr(self, name) for name in ("slope", "offset", "rise", "fall", "knot", "below")}
        return super().get_config() | own
