"""What rounding a network loses, and whether that may be served."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliogate.contract import DETECTOR, Model
from training import metrics
from training.data import Dataset
from training.metrics import Confusion

logger = logging.getLogger(__name__)

JUDGED_SLICES = 256


@dataclass(frozen=True)
class Rounding:
    """What became of a network when it was rounded.

    Attributes:
        bits: 8 or 16, or 32 where rounding lost too much.
        figure: by which it was judged.
        exact: that figure in 32 bits; None where the slices do not define it.
        rounded: the same in fewer.
        slices: how many it was judged on.
        largest_difference: of any probability, between fewer bits and 32.
    """

    bits: int
    figure: str
    exact: float | None
    rounded: float | None
    slices: int
    largest_difference: float

    @property
    def served_difference(self) -> float:
        """How far a probability that is served may be from the network's in 32 bits."""
        return self.largest_difference if self.bits < 32 else 0.0


def judged_slices(dataset: Dataset, strangers: Sequence[str]) -> Dataset:
    """Slices to find out on what rounding loses: of patients that the networks did not learn from, if there are any."""
    return (dataset.of(strangers) if strangers else dataset).spread(JUDGED_SLICES)


def judge(
    model: Model,
    exact: NDArray[np.float32],
    rounded: NDArray[np.float32],
    judged: Dataset,
    threshold: float,
    *,
    bits: int,
    largest_loss: float,
) -> Rounding:
    """Whether a network may be served in fewer bits.

    Args:
        model: which of the two networks it is.
        exact: its probabilities of the slices, in 32 bits.
        rounded: the same in fewer.
        judged: the slices.
        threshold: mask probability from which a pixel is tumor.
        bits: how many.
        largest_loss: the most by which the figure that it is judged by may be lower.
    """
    figure, score = _figure(model, judged, threshold)
    before, after = score(exact), score(rounded)
    # A figure that is not defined, NaN, shows nothing.
    kept = before - after <= largest_loss
    rounding = Rounding(
        bits=bits if kept else 32,
        figure=figure,
        exact=_defined(before),
        rounded=_defined(after),
        slices=len(judged),
        largest_difference=round(float(np.abs(exact - rounded).max()), 4),
    )
    logger.log(
        logging.INFO if kept else logging.WARNING,
        "%s: %s of %d slices is %.4f, and %.4f in %d bits; served in %d",
        *(model.name, figure, len(judged), before, after, bits, rounding.bits),
    )
    return rounding


def _defined(figure: float) -> float | None:
    return None if np.isnan(figure) else round(figure, 4)


def _figure(model: Model, judged: Dataset, threshold: float) -> tuple[str, Callable[[NDArray[np.float32]], float]]:
    if model is DETECTOR:
        return "AUC", lambda probability: metrics.auc(probability[:, 0], judged.tumor)

    def dice(probability: NDArray[np.float32]) -> float:
        pixels = Confusion.of(probability >= threshold, judged.masks, axis=(1, 2)).at(judged.tumor)
        return float(np.mean(pixels.dice)) if len(pixels.dice) else float("nan")

    return "Dice of tumor slices", dice
