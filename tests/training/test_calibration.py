"""From logits to probabilities, and the operating point on them."""

from pathlib import Path

import numpy as np
import pytest

from training.calibrate import Calibration, crossfitted
from training.calibration import OperatingPoint, PlattScaling
from training.data import Dataset
from training.errors import DataError, RunError
from training.networks import Logits


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are true as often as sigmoid(0.5 · logit - 1) says."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, count)
    return logits, rng.random(count) < 1 / (1 + np.exp(1 - 0.5 * logits))


def test_platt_scaling_finds_what_the_labels_were_drawn_from() -> None:
    scaling = PlattScaling.fit(*drawn(20_000, seed=2))
    assert (scaling.slope, scaling.offset) == pytest.approx((0.5, -1), abs=0.06)
    assert scaling(np.array([2.0])) == pytest.approx(0.5, abs=0.03)


def test_one_class_cannot_be_calibrated() -> None:
    with pytest.raises(DataError, match="with tumor and slices without"):
        PlattScaling.fit(np.arange(5.0), np.ones(5, bool))


def test_a_detector_that_learned_nothing_keeps_its_logits_and_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    assert PlattScaling.fit(np.array([1.0, 2, 3, 4]), np.array([True, True, False, False])) == PlattScaling(1.0, 0.0)
    assert "learned nothing" in caplog.text


@pytest.mark.parametrize("sensitivity", [0.5, 0.9, 0.98, 0.999])
def test_operating_point_is_the_highest_that_lets_enough_tumor_through(sensitivity: float) -> None:
    logits, tumor = drawn(3000, seed=1)
    probability = PlattScaling(0.5, -1)(logits)
    point = OperatingPoint.choose(probability, tumor, sensitivity=sensitivity)
    assert (probability[tumor] >= point.detection_threshold).mean() == point.sensitivity >= sensitivity
    assert (probability[tumor] >= point.detection_threshold + 0.001).mean() < sensitivity
    assert point.specificity == (probability[~tumor] < point.detection_threshold).mean()


def test_lower_bound_is_that_of_clopper_and_pearson() -> None:
    """10 of 10 found: the bound p has p^10 = 0.05."""
    probability, tumor = np.linspace(0.1, 1, 20), np.arange(20) >= 10
    point = OperatingPoint.choose(probability, tumor, sensitivity=0.98)
    assert (point.sensitivity, point.specificity) == (1, 1)
    assert point.sensitivity_lower_bound == pytest.approx(0.05**0.1)


def fold(seed: int, patient: str) -> tuple[Logits, Dataset]:
    logits, tumor = drawn(200, seed)
    masks = np.zeros((200, 4, 4), np.uint8)
    masks[tumor, 0, 0] = 1
    names = np.array([f"{patient}_{n}" for n in range(200)])
    data = Dataset(np.full(200, patient), names, np.zeros((200, 4, 4, 3), np.uint8), masks)
    return Logits(logits.astype(np.float32), np.where(masks, 5, -5).astype(np.float16)), data


def test_no_patient_is_calibrated_with_his_own_answers() -> None:
    calibrations = crossfitted([fold(seed, f"p{seed}") for seed in range(3)], sensitivity=0.9)
    assert [c.patients for c in calibrations] == [("p1", "p2"), ("p0", "p2"), ("p0", "p1")]


def test_it_is_written_for_the_gate_and_read_back(tmp_path: Path) -> None:
    logits, data = fold(0, "p")
    calibration = Calibration.measure(logits, data, sensitivity=0.9)
    calibration.write(tmp_path)
    assert Calibration.read(tmp_path) == calibration
    answers = calibration.answers(logits)
    np.testing.assert_array_equal(answers.masks, data.masks)
    np.testing.assert_array_equal(answers.opened, answers.probability >= calibration.point.detection_threshold)


@pytest.mark.parametrize("content", ['{"detection_threshold": 0.5}', "[]", "{", '{"measured_on": 1}'])
def test_a_file_that_is_not_its_own_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "operating_point.json").write_text(content)
    with pytest.raises(RunError, match=r"operating_point\.json: "):
        Calibration.read(tmp_path)


def test_a_file_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="`python -m training calibrate "):
        Calibration.read(tmp_path)
