"""`calibrate`: what a run's logits mean, and where its gate opens, from patients that it did not learn from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.answers import Answers
from training.calibration import OperatingPoint, PlattScaling
from training.data import Dataset
from training.errors import RunError
from training.files import write_json
from training.joined import joined
from training.networks import Logits
from training.run import Run

FILE = "operating_point.json"
MASK_THRESHOLD = 0.5

Part = tuple[Logits, Dataset]
"""What the networks of a run say of its validation patients, and those patients' slices."""


@dataclass(frozen=True)
class Calibration:
    """Everything between logits and answers.

    Attributes:
        scaling: from tumor logits to probabilities.
        point: where the gate opens.
        mask_threshold: mask probability from which a pixel is tumor.
        patients: whom it was measured on.
    """

    scaling: PlattScaling
    point: OperatingPoint
    mask_threshold: float
    patients: tuple[str, ...]

    @classmethod
    def measure(cls, logits: Logits, dataset: Dataset, *, sensitivity: float) -> "Calibration":
        """Of what networks say of slices that they did not learn from.

        Raises:
            DataError: there is only one class, or the detector has learned nothing.
        """
        scaling = PlattScaling.fit(logits.tumor, dataset.tumor)
        point = OperatingPoint.choose(scaling(logits.tumor), dataset.tumor, sensitivity=sensitivity)
        return cls(scaling, point, MASK_THRESHOLD, tuple(np.unique(dataset.patients).tolist()))

    def answers(self, logits: Logits) -> Answers:
        """What the gate makes of logits."""
        edge = np.log(self.mask_threshold / (1 - self.mask_threshold))
        masks = (logits.mask >= edge).astype(np.uint8)
        return Answers.gated(self.scaling(logits.tumor), masks, threshold=self.point.detection_threshold)

    def write(self, folder: Path) -> None:
        """Writes `operating_point.json`: the two thresholds that the gate reads, and where they are from."""
        point = asdict(self.point)
        content = {"detection_threshold": point.pop("detection_threshold"), "mask_threshold": self.mask_threshold}
        measured = {"measured_on": {"patients": list(self.patients), **point}}
        write_json(folder / FILE, content | {"platt_scaling": asdict(self.scaling)} | measured)

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
            return cls(PlattScaling(**content["platt_scaling"]), point, content["mask_threshold"], patients)
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
