"""The figures, at values that can be known beforehand."""

import math

import numpy as np
import pytest

from training import metrics
from training.calibration import PlattScaling, detection_threshold


def test_dice_of_known_overlap() -> None:
    a, b = np.zeros((2, 10, 10), np.uint8), np.zeros((2, 10, 10), np.uint8)
    a[0, :4, :5] = 1
    b[0, 2:6, :5] = 1
    assert metrics.dice(a, b) == pytest.approx(0.5)
    assert metrics.dice(a, np.zeros_like(a)) == 0.0


def test_dice_of_two_empty_masks_is_undefined() -> None:
    assert math.isnan(metrics.dice(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)))


def test_sensitivity_and_specificity() -> None:
    tumor = np.array([True, True, True, True, False, False])
    opened = np.array([True, True, True, False, True, False])
    assert metrics.sensitivity(opened, tumor) == 0.75
    assert metrics.specificity(opened, tumor) == 0.5


def test_calibration_error_is_small_for_true_probabilities_and_large_for_boasting_ones() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(5000)
    tumor = rng.random(5000) < probability
    assert metrics.calibration_error(probability, tumor) < 0.03
    assert metrics.calibration_error(np.where(probability > 0.5, 0.99, 0.01), tumor) > 0.2


def test_interval_is_as_wide_as_there_are_few_patients() -> None:
    """40 patients of 10 equal slices tell as much as 40 slices, not as 400."""
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(size=40), 10)
    groups = [np.arange(start, start + 10) for start in range(0, 400, 10)]
    low, high = metrics.patient_interval(lambda rows: float(values[rows].mean()), groups)
    expected = 2 * 1.96 * values.std() / math.sqrt(40)
    assert high - low == pytest.approx(expected, rel=0.15)
    assert low < values.mean() < high


def test_platt_scaling_finds_the_slope_and_offset_that_made_the_labels() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 3, 20_000)
    tumor = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    scaling = PlattScaling.fit(logits, tumor)
    assert (scaling.slope, scaling.offset) == pytest.approx((0.5, -1), abs=0.06)


def test_detection_threshold_is_the_highest_that_still_finds_enough() -> None:
    probability = np.array([0.9, 0.8, 0.7, 0.355, 0.2, 0.1])
    tumor = np.array([True, True, True, True, False, False])
    assert detection_threshold(probability, tumor, sensitivity=1.0) == 0.35
    assert detection_threshold(probability, tumor, sensitivity=0.75) == 0.7
