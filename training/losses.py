"""What the networks minimize. All take logits, for the sake of numbers in 16 bits."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("gliogate")
class FocalTversky(keras.losses.Loss):
    """(1 - Tversky index)^gamma over the whole batch, plus binary cross-entropy.

    Over the batch and not per slice, since most slices have an empty mask, whose index would be 0/0. Cross-entropy
    keeps a gradient where the index has none. A map of logits that is coarser than the masks is held against the share
    of tumor in each of its cells. Source: Abraham and Khan 2018, arXiv:1810.07842.

    Args:
        false_negative: weight of missed pixels.
        false_positive: weight of pixels wrongly found.
        gamma: exponent; below 1 it pushes harder the better the overlap already is.
    """

    def __init__(
        self, false_negative: float = 0.6, false_positive: float = 0.4, gamma: float = 0.75, name: str = "focal_tversky"
    ) -> None:
        super().__init__(name=name, reduction="sum")
        self.false_negative, self.false_positive, self.gamma = false_negative, false_positive, gamma

    def call(self, y_true, y_pred):  # noqa: D102
        y_true, logits = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        cell = y_true.shape[1] // logits.shape[1] if logits.shape[1] else 1
        if cell > 1:
            y_true = ops.average_pool(y_true[..., None], cell)[..., 0]
        probability = ops.sigmoid(logits)
        hit = ops.sum(y_true * probability)
        missed = ops.sum(y_true * (1 - probability))
        wrong = ops.sum((1 - y_true) * probability)
        index = (hit + 1) / (hit + self.false_negative * missed + self.false_positive * wrong + 1)
        entropy = ops.mean(ops.binary_crossentropy(y_true, logits, from_logits=True))
        return ops.power(1 - index + 1e-6, self.gamma) + entropy

    def get_config(self) -> dict[str, object]:
        """The arguments that make this loss again."""
        return {
            "false_negative": self.false_negative,
            "false_positive": self.false_positive,
            "gamma": self.gamma,
            "name": self.name,
        }
