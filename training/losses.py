"""What the networks minimize, by name. All take logits, for the sake of numbers in 16 bits.

| name | source |
|---|---|
| `bce` | binary cross-entropy |
| `dice` | Milletari et al. 2016, arXiv:1606.04797 |
| `tversky` | Salehi et al. 2017, arXiv:1706.05721; a missed pixel weighs 0.7, one wrongly found 0.3 |
| `focal_tversky` | Abraham and Khan 2018, arXiv:1810.07842; the same to the power 0.75 |

A sum is written `focal_tversky + bce`; another weight of missed pixels, and for the focal loss another exponent, in
parentheses: `focal_tversky(0.6, 0.75)`. Overlap is taken over the whole batch and not per slice, since most slices have
an empty mask, whose overlap would be 0/0; cross-entropy keeps a gradient where overlap has none.
"""

import re
from collections.abc import Callable

import keras
from keras import ops

_TERM = re.compile(r"(?P<name>[a-z_]+)(\((?P<arguments>[\d., ]*)\))?")


def loss_of(formula: str) -> keras.losses.Loss:
    """The loss that a formula names.

    Raises:
        ValueError: the formula cannot be read, or names a loss that there is not.
    """
    return SumOfLosses(formula)


def _bce() -> keras.losses.Loss:
    return keras.losses.BinaryCrossentropy(from_logits=True)


def _dice() -> keras.losses.Loss:
    return _OfProbability(keras.losses.Dice())


# Keras documents `alpha` as the weight of false positives; what it multiplies are the missed pixels (3.15).
def _tversky(missed: float = 0.7) -> keras.losses.Loss:
    return _OfProbability(keras.losses.Tversky(alpha=missed, beta=1 - missed))


def _focal_tversky(missed: float = 0.7, gamma: float = 0.75) -> keras.losses.Loss:
    # The root of a loss of 0 has no gradient.
    return _OfProbability(keras.losses.Tversky(alpha=missed, beta=1 - missed), power=gamma, floor=1e-6)


LOSSES: dict[str, Callable[..., keras.losses.Loss]] = {
    "bce": _bce,
    "dice": _dice,
    "tversky": _tversky,
    "focal_tversky": _focal_tversky,
}


@keras.saving.register_keras_serializable("gliogate")
class SumOfLosses(keras.losses.Loss):
    """The sum of the losses that a formula names, of targets and logits of one shape (B, …).

    Args:
        formula: as this module's docstring has it.
        name: for Keras.
    """

    def __init__(self, formula: str, name: str = "loss") -> None:
        super().__init__(name=name, reduction="sum", dtype="float32")
        self.formula = formula
        self.terms = [_term(text.strip()) for text in formula.split("+")]

    def call(self, y_true, y_pred):  # noqa: D102
        return sum(term(y_true, y_pred) for term in self.terms)

    def get_config(self) -> dict[str, object]:
        """The arguments that make this loss again."""
        return {"formula": self.formula, "name": self.name}


class _OfProbability(keras.losses.Loss):
    """(loss of the probability + floor)^power, of logits."""

    def __init__(self, loss: keras.losses.Loss, *, power: float = 1.0, floor: float = 0.0) -> None:
        super().__init__(reduction="sum", dtype="float32")
        self.loss, self.power, self.floor = loss, power, floor

    def call(self, y_true, y_pred):
        value = self.loss(y_true, ops.sigmoid(y_pred))
        return value if self.power == 1 else ops.power(value + self.floor, self.power)


def _term(text: str) -> keras.losses.Loss:
    match = _TERM.fullmatch(text)
    if match is None or match["name"] not in LOSSES:
        raise ValueError(f"no loss {text!r}; there are {', '.join(LOSSES)}, and sums of them with +")
    arguments = [float(number) for number in (match["arguments"] or "").split(",") if number.strip()]
    try:
        return LOSSES[match["name"]](*arguments)
    except TypeError:
        raise ValueError(f"{text!r}: too many numbers in parentheses") from None
