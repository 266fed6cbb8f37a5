"""How far a head's mask can be trusted, measured on patients that the networks did not learn from.

The certainty of a mask is how well a strict outline agrees with a lax one: how many pixels are tumor with a probability
of `STRICT` or more, for each that is with `LAX` or more. No second look at the slices is needed for it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import spearmanr

from training.calibration import MaskScaling
from training.data import Dataset
from training.networks import Logits

STRICT, LAX = 0.7, 0.1

FLAGGED_SHARE = 0.2
"""Of the heads that a limit was measured on: the least certain fifth is to be looked at."""

COVERAGE = 0.9

PIXEL_BINS = 50
DOUBTFUL_BINS = 1
"""Without so many at either end are the pixels of which the network is in doubt: 0.02 to 0.98."""


@dataclass(frozen=True)
class Heads:
    """What was outlined in some heads that show tumor, and what is there; arrays of shape (heads,).

    Attributes:
        certainty: of the mask; 0 where there is none.
        outlined: pixels.
        true: pixels.
        dice: of the volume.
    """

    certainty: NDArray[np.float64]
    outlined: NDArray[np.float64]
    true: NDArray[np.float64]
    dice: NDArray[np.float64]

    @property
    def ratio(self) -> NDArray[np.float64]:
        """True volume as a multiple of the outlined one; infinite where nothing was outlined."""
        with np.errstate(divide="ignore"):
            return self.true / self.outlined


@dataclass(frozen=True)
class Reliability:
    """What is said beside a mask.

    Attributes:
        limit: the certainty below which a mask is to be looked at.
        certain: between which multiples of the outlined volume nine of ten true ones lie, where the mask is certain.
        uncertain: the same below the limit.
    """

    limit: float
    certain: tuple[float, float]
    uncertain: tuple[float, float]

    @classmethod
    def measure(cls, heads: Heads) -> "Reliability":
        """Of heads that the networks did not learn from."""
        has_mask = heads.outlined > 0
        certainty, ratio = heads.certainty[has_mask], heads.ratio[has_mask]
        if not len(certainty):
            return cls(0.0, (0.0, 0.0), (0.0, 0.0))
        limit = float(np.round(np.quantile(certainty, FLAGGED_SHARE), 3))
        return cls(limit, _between(ratio[certainty >= limit]), _between(ratio[certainty < limit]))

    def covers(self, heads: Heads) -> NDArray[np.bool_]:
        """Whether the true volume lies where it is said to lie."""
        bounds = np.where((heads.certainty >= self.limit)[:, None], self.certain, self.uncertain)
        return (bounds[:, 0] <= heads.ratio) & (heads.ratio <= bounds[:, 1])

    def as_json(self) -> dict[str, Any]:
        """As the gate reads it."""
        return {"limit": self.limit, "certain": list(self.certain), "uncertain": list(self.uncertain)}


def figures(parts: list[tuple[Reliability, Heads]]) -> dict[str, Any]:
    """What certainty, limit and interval are worth on heads that they were not measured on."""
    flagged = np.concatenate([heads.certainty < reliability.limit for reliability, heads in parts])
    covered = np.concatenate([reliability.covers(heads) for reliability, heads in parts])
    heads = Heads(*(np.concatenate([getattr(each, name) for _, each in parts]) for name in Heads.__dataclass_fields__))
    poor = heads.dice < 0.7
    varies = len(np.unique(heads.certainty)) > 1 and len(np.unique(heads.dice)) > 1
    return {
        "heads": len(heads.dice),
        "spearman_of_certainty_and_dice": float(spearmanr(heads.certainty, heads.dice).statistic) if varies else None,
        "flagged": int(flagged.sum()),
        "dice_mean_of_flagged": _mean(heads.dice[flagged]),
        "dice_mean_of_others": _mean(heads.dice[~flagged]),
        "heads_of_dice_below_0.7": int(poor.sum()),
        "heads_of_dice_below_0.7_flagged": int((poor & flagged).sum()),
        "said_over_true_volume_median": float(np.median(heads.outlined / heads.true)) if len(heads.true) else None,
        "said_over_true_volume_mean": _mean(heads.outlined / heads.true),
        "share_of_true_volumes_in_their_interval": _mean(covered),
    }


def _mean(values: NDArray[np.generic]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _between(ratio: NDArray[np.float64]) -> tuple[float, float]:
    """The interval that the next one lies in with the probability `COVERAGE`, of ratios that are drawn alike."""
    if not len(ratio):
        return 0.0, 0.0
    in_order = np.sort(ratio)
    outside = int((len(ratio) + 1) * (1 - COVERAGE) / 2)
    low, high = in_order[max(outside - 1, 0)], in_order[min(len(ratio) - outside, len(ratio) - 1)]
    return float(np.round(low, 3)), float(np.round(high, 3))


@dataclass(frozen=True)
class PixelCalibration:
    """Pixels of slices that were segmented, by what was said of them; arrays of shape (bins,).

    Attributes:
        pixels: how many.
        said: the sum of their probabilities.
        tumor: how many of them are tumor.
    """

    pixels: NDArray[np.float64]
    said: NDArray[np.float64]
    tumor: NDArray[np.float64]

    @classmethod
    def of(
        cls, logits: Logits, dataset: Dataset, opened: NDArray[np.bool_], scaling: MaskScaling
    ) -> "PixelCalibration":
        """Counts the pixels of slices at which the gate opened."""
        total = cls(*np.zeros((3, PIXEL_BINS)))
        for row in np.flatnonzero(opened):
            probability = expit(scaling(logits.mask[row].astype(np.float32).ravel()))
            bins = np.minimum((probability * PIXEL_BINS).astype(int), PIXEL_BINS - 1)
            counts = (
                np.bincount(bins, weights, PIXEL_BINS) for weights in (None, probability, dataset.masks[row].ravel())
            )
            total = cls.total([total, cls(*counts)])
        return total

    @classmethod
    def total(cls, parts: "list[PixelCalibration]") -> "PixelCalibration":
        """All of them together."""
        return cls(*(np.sum([getattr(each, name) for each in parts], axis=0) for name in cls.__dataclass_fields__))

    def figures(self) -> dict[str, Any]:
        """The expected calibration error of all pixels, and of those in doubt. Source: Naeini et al. 2015."""
        gap = np.abs(self.said - self.tumor)
        doubt = slice(DOUBTFUL_BINS, PIXEL_BINS - DOUBTFUL_BINS)
        has = self.pixels > 0
        return {
            "pixel_calibration_error": float(gap.sum() / max(1, self.pixels.sum())),
            "pixel_calibration_error_between_0.02_and_0.98": float(gap[doubt].sum() / max(1, self.pixels[doubt].sum())),
            "pixel_calibration_curve": [
                {"pixels": int(n), "said": float(said / n), "tumor": float(tumor / n)}
                for n, said, tumor in zip(self.pixels[has], self.said[has], self.tumor[has], strict=True)
            ],
        }
