"""`calibrate`: what a run's logits mean, and where its gate opens, from patients that it did not learn from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from training.answers import Answers
from training.calibration import MaskScaling, OperatingPoint, PlattScaling
from training.data import Dataset
from training.errors import RunError
from training.files import write_json
from training.heads import HeadCalibration
from training.joined import joined
from training.networks import Logits
from training.run import Run

FILE = "operating_point.json"

Part = tuple[Logits, Dataset]
"""What the networks of a run say of its validation patients, and those patients' slices."""


@dataclass(frozen=True)
class Calibration:
    """Everything between logits and answers.

    Attributes:
        scaling: from tumor logits to probabilities.
        point: where the gate opens.
        masks: from mask logits to those of probabilities.
        heads: of slices that are judged together.
        patients: whom it was measured on.
    """

    scaling: PlattScaling
    point: OperatingPoint
    masks: MaskScaling
    heads: HeadCalibration
    patients: tuple[str, ...]

    @classmethod
    def measure(cls, logits: Logits, dataset: Dataset, *, sensitivity: float) -> "Calibration":
        """Of what networks say of slices that they did not learn from.

        Raises:
            DataError: there is only one class, or the detector has learned nothing.
        """
        scaling = PlattScaling.fit(logits.tumor, dataset.tumor)
        probability = scaling(logits.tumor)
        point = OperatingPoint.choose(probability, dataset.tumor, sensitivity=sensitivity)
        # Of slices that nobody gets a mask of, there is nothing to calibrate.
        opened = np.flatnonzero(probability >= point.detection_threshold)
        masks = MaskScaling.fit((logits.mask[row] for row in opened), (dataset.masks[row] for row in opened))
        heads = HeadCalibration.measure(logits, dataset, scaling, masks, sensitivity=sensitivity)
        return cls(scaling, point, masks, heads, tuple(np.unique(dataset.patients).tolist()))

    @property
    def mask_threshold(self) -> float:
        """The mask probability from which a pixel is tumor, to eight digits."""
        return round(float(expit(self.masks(np.float64(self.heads.mask_edge)))), 8)

    def answers(self, logits: Logits) -> Answers:
        """What the gate makes of logits."""
        masks = (logits.mask >= self.heads.mask_edge).astype(np.uint8)
        return Answers.gated(self.scaling(logits.tumor), masks, threshold=self.point.detection_threshold)

    def write(self, folder: Path) -> None:
        """Writes `operating_point.json`: all that `read` needs, the gate's thresholds first."""
        scaling = {"platt_scaling": asdict(self.scaling), "mask_scaling": asdict(self.masks)}
        write_json(folder / FILE, self._served(self.point) | scaling | {"heads": self.heads.as_json()})

    def for_slices(self) -> dict[str, Any]:
        """The operating point of the gate of single slices, as it is served."""
        return self._served(self.point) | {"reliability": self.heads.reliability.as_json()}

    def for_heads(self) -> dict[str, Any]:
        """The operating point of the gate of heads, as it is served."""
        neighbours = {"neighbours": asdict(self.heads.neighbours)}
        return self._served(self.heads.point) | neighbours | {"reliability": self.heads.reliability.as_json()}

    def _served(self, of: OperatingPoint) -> dict[str, Any]:
        point = asdict(of)
        thresholds = {"detection_threshold": point.pop("detection_threshold"), "mask_threshold": self.mask_threshold}
        return thresholds | {"measured_on": {"patients": list(self.patients), **point}}

    @classmethod
    def read(cls, folder: Path) -> "Calibration":
        """Reads what `write` wrote.

        Raises:
            RunError: it is not there, or has another content.
        """
        content = Run.read_json(folder, FILE, written_by="calibrate")
        try:
            measured: dict[str, Any] = dict(content["measured_on"])
            patients = tuple(measured.pop("patients"))
            point = OperatingPoint(detection_threshold=content["detection_threshold"], **measured)
            scaling, masks = PlattScaling(**content["platt_scaling"]), MaskScaling(**content["mask_scaling"])
            return cls(scaling, point, masks, HeadCalibration.from_json(content["heads"]), patients)
        except (KeyError, TypeError) as error:
            raise RunError(f"{folder / FILE}: not as `calibrate` writes it: {error}") from None


def crossfitted(parts: Sequence[Part], *, sensitivity: float) -> list[Calibration]:
    """For each fold the calibration by all the others, so that no patient's answers are calibrated with his own.

    Args:
        parts: of each fold one.
        sensitivity: see `OperatingPoint`.
    """
    return [
        Calibration.measure(*pooled([part for part in parts if part is not held_out]), sensitivity=sensitivity)
        for held_out in parts
    ]


def pooled(parts: Sequence[Part]) -> Part:
    """Several folds as one."""
    logits, datasets = zip(*parts, strict=True)
    return joined(logits), joined(datasets)
