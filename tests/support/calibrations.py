"""A calibration that nobody measured, for runs whose networks learned nothing."""

from gate.neighbours import Neighbours
from training.calibrate import Calibration
from training.calibration import MaskScaling, OperatingPoint, PlattScaling
from training.heads import HeadCalibration
from training.reliability import Reliability

POINT = OperatingPoint(0.5, 0.9, 1.0, 0.9, 1.0)


def made_up(patients: tuple[str, ...]) -> Calibration:
    """One of these patients, that leaves the detector's logits as they are and bends those of masks."""
    heads = HeadCalibration(
        Neighbours(reach_mm=12.0, assumed_spacing_mm=5.0, slope=1.0, offset=0.0),
        POINT,
        0.5,
        Reliability(0.8, (0.9, 1.1), (0.5, 2.0)),
    )
    return Calibration(PlattScaling(1.0, 0.0), POINT, MaskScaling(0.3, -0.4, 0.6, 1.6, 2.5), heads, patients)
