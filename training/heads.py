"""Heads judged as a whole: how their slices are weighed among each other, and where the gate opens then."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from gate.neighbours import Neighbours
from gliogate.contract import ASSUMED_SPACING_MM
from training.answers import Answers
from training.calibration import MaskScaling, OperatingPoint, PlattScaling
from training.data import Dataset
from training.networks import Logits
from training.reliability import LAX, STRICT, Heads, Reliability

REACH_MM = 12.0
"""How far neighbours reach. On the 88 patients 8 to 14 do alike; see docs/training.md."""

EDGES = tuple(float(edge) for edge in np.arange(-2.0, 2.25, 0.25))
"""Mask logits, one of which pixels are tumor from."""

HEAD_MM = 145.0
"""What the slices of a head cover, about, from the first to the last. The set does not say how far they are apart."""


@dataclass(frozen=True)
class HeadCalibration:
    """Everything between logits and what is said of a head.

    Attributes:
        neighbours: how a slice's neighbours are weighed.
        point: where the gate opens.
        mask_edge: the mask logit from which a pixel is tumor.
        reliability: what is said beside a mask.
    """

    neighbours: Neighbours
    point: OperatingPoint
    mask_edge: float
    reliability: Reliability

    @classmethod
    def measure(
        cls, logits: Logits, dataset: Dataset, scaling: PlattScaling, masks: MaskScaling, *, sensitivity: float
    ) -> "HeadCalibration":
        """Of what networks say of slices that they did not learn from.

        Args:
            logits: of the dataset's slices.
            dataset: whole heads.
            scaling: of the detector.
            masks: of the segmenter.
            sensitivity: see `OperatingPoint`.
        """
        plain = Neighbours(REACH_MM, ASSUMED_SPACING_MM, slope=1.0, offset=0.0)
        averages = logit(judged(plain, scaling(logits.tumor), dataset))
        fitted = PlattScaling.fit(averages, dataset.tumor)
        neighbours = Neighbours(REACH_MM, ASSUMED_SPACING_MM, fitted.slope, fitted.offset)
        probability = judged(neighbours, scaling(logits.tumor), dataset)
        point = OperatingPoint.choose(probability, dataset.tumor, sensitivity=sensitivity)
        opened = probability >= point.detection_threshold
        edge = unbiased_edge(logits, dataset, opened)
        return cls(neighbours, point, edge, Reliability.measure(heads_of(logits, dataset, opened, masks, edge)))

    def answers(self, logits: Logits, dataset: Dataset, scaling: PlattScaling) -> Answers:
        """What is said of heads."""
        probability = judged(self.neighbours, scaling(logits.tumor), dataset)
        masks = (logits.mask >= self.mask_edge).astype(np.uint8)
        return Answers.gated(probability, masks, threshold=self.point.detection_threshold)

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "neighbours": asdict(self.neighbours),
            "point": asdict(self.point),
            "mask_edge": self.mask_edge,
            "reliability": self.reliability.as_json(),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "HeadCalibration":
        """Reads what `as_json` gave.

        Raises:
            KeyError: something is missing.
            TypeError: something else is there.
        """
        reliability = Reliability(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in content["reliability"].items()
            }
        )
        return cls(
            Neighbours(**content["neighbours"]), OperatingPoint(**content["point"]), content["mask_edge"], reliability
        )


def judged(neighbours: Neighbours, probability: NDArray[np.float32], dataset: Dataset) -> NDArray[np.float32]:
    """The probability of each slice, seen among its neighbours."""
    result = np.empty_like(probability)
    for _, rows in dataset.volumes():
        result[rows] = neighbours.judge(probability[rows, np.newaxis], HEAD_MM / len(rows))[:, 0]
    return result


def unbiased_edge(logits: Logits, dataset: Dataset, opened: NDArray[np.bool_]) -> float:
    """The mask logit from which pixels are to be tumor, so that as many heads are said too large as too small."""

    def bias(edge: float) -> float:
        found = [
            np.count_nonzero((logits.mask[rows] >= edge) & opened[rows, np.newaxis, np.newaxis]) / count
            for _, rows in dataset.volumes()
            if (count := np.count_nonzero(dataset.masks[rows]))
        ]
        return float(np.median(found)) - 1

    return min(EDGES, key=lambda edge: (abs(bias(edge)), abs(edge)))


def heads_of(logits: Logits, dataset: Dataset, opened: NDArray[np.bool_], scaling: MaskScaling, edge: float) -> Heads:
    """What came through the gate of the heads that show tumor.

    Args:
        logits: of the dataset's slices.
        dataset: whole heads.
        opened: at which slices the gate opened.
        scaling: of the masks.
        edge: the mask logit from which a pixel is tumor.
    """
    return Heads(*np.array(list(_heads(logits, dataset, opened, scaling, edge))).reshape(-1, 4).T)


def _heads(
    logits: Logits, dataset: Dataset, opened: NDArray[np.bool_], scaling: MaskScaling, edge: float
) -> Iterator[tuple[float, int, int, float]]:
    for _, rows in dataset.volumes():
        true = dataset.masks[rows] != 0
        count = np.count_nonzero(true)
        if not count:
            continue
        found = logits.mask[rows].astype(np.float32)
        mask = (found >= edge) & opened[rows, np.newaxis, np.newaxis]
        area = np.count_nonzero(mask, axis=(1, 2))
        shown = area > 0
        probability = scaling(found[shown])
        strict, lax = (np.count_nonzero(probability >= logit(share), axis=(1, 2)) for share in (STRICT, LAX))
        # As the gate and the SDK have it: of each slice, and weighed by what is outlined in it.
        certainty = np.average(strict / np.maximum(lax, 1), weights=area[shown]) if shown.any() else 0.0
        outlined = int(area.sum())
        yield float(certainty), outlined, count, 2 * np.count_nonzero(mask & true) / (outlined + count)
