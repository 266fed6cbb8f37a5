"""The figures, at values that can be known beforehand."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training import metrics
from training.metrics import Confusion, OutlineDistances


@pytest.fixture
def squares() -> tuple[np.ndarray, np.ndarray]:
    """Twenty pixels each in the first of two slices, ten of them shared."""
    a, b = np.zeros((2, 10, 10), np.uint8), np.zeros((2, 10, 10), np.uint8)
    a[0, :4, :5] = 1
    b[0, 2:6, :5] = 1
    return a, b


def square(row: int, column: int, side: int = 20) -> np.ndarray:
    mask = np.zeros((64, 64), np.uint8)
    mask[row : row + side, column : column + side] = 1
    return mask


def test_dice_of_known_overlap(squares: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = squares
    assert metrics.dice(a, b) == pytest.approx(0.5)
    assert metrics.dice(a, np.zeros_like(a)) == 0.0


def test_dice_of_two_empty_masks_is_undefined() -> None:
    assert math.isnan(metrics.dice(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)))


def test_pixels_are_counted_slice_by_slice_and_added_up_to_a_volume(squares: tuple[np.ndarray, np.ndarray]) -> None:
    slices = Confusion.of(*squares, axis=(1, 2))
    np.testing.assert_array_equal(np.stack(slices.counts), [[10, 0], [10, 0], [10, 0], [70, 100]])
    np.testing.assert_array_equal(slices.jaccard, [1 / 3, np.nan])
    np.testing.assert_array_equal(slices.accuracy, [0.8, 1.0])
    assert slices.total().dice == 0.5
    assert slices.total().accuracy == 0.9


def test_a_slice_that_the_gate_missed_counts_as_an_empty_mask(squares: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, truth = squares
    opened = np.array([False, True])
    gated = Confusion.of(predicted, truth, axis=(1, 2)).gated(opened)
    expected = Confusion.of(predicted * opened[:, None, None], truth, axis=(1, 2))
    np.testing.assert_array_equal(gated.counts, expected.counts)
    assert gated.total().dice == 0


def test_sensitivity_specificity_and_their_kin() -> None:
    tumor = np.array([True, True, True, True, False, False])
    opened = np.array([True, True, True, False, True, False])
    assert metrics.sensitivity(opened, tumor) == 0.75
    assert metrics.specificity(opened, tumor) == 0.5
    slices = Confusion.of(opened, tumor).total()
    assert (slices.precision, slices.accuracy, slices.dice) == (0.75, 4 / 6, 0.75)


def test_what_there_is_none_of_has_no_share() -> None:
    nothing = np.zeros(3, bool)
    assert math.isnan(metrics.sensitivity(~nothing, nothing))
    assert math.isnan(metrics.specificity(nothing, ~nothing))
    assert math.isnan(Confusion.of(nothing, ~nothing).total().precision)


def test_auc_is_the_area_under_the_curve_also_where_probabilities_are_equal() -> None:
    rng = np.random.default_rng(4)
    tumor = rng.random(500) < 0.4
    probability = (rng.normal(tumor, 1.0)).round(1)
    assert len(np.unique(probability)) < 100
    assert metrics.auc(probability, tumor) == pytest.approx(roc_auc_score(tumor, probability), abs=1e-12)


@pytest.mark.parametrize("figure", [metrics.auc, metrics.average_precision])
@pytest.mark.parametrize("tumor", [True, False])
def test_one_class_has_no_curve(figure, tumor: bool) -> None:
    assert math.isnan(figure(np.array([0.2, 0.9]), np.array([tumor, tumor])))


def test_average_precision_of_known_ranks() -> None:
    """Tumors come first and third: half of the sensitivity at precision 1, half at 2/3."""
    figure = metrics.average_precision(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False]))
    assert figure == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_calibration_error_is_small_for_true_probabilities_and_large_for_boasting_ones() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(5000)
    tumor = rng.random(5000) < probability
    assert metrics.calibration_error(probability, tumor) < 0.03
    assert metrics.calibration_error(np.where(probability > 0.5, 0.99, 0.01), tumor) > 0.2


def test_calibration_bins_hold_equally_many_slices() -> None:
    probability = np.linspace(0, 1, 150) ** 4
    curve = metrics.calibration_curve(probability, probability > 0.5)
    assert [group.slices for group in curve] == [10] * 15
    assert [group.tumor_share for group in curve[-2:]] == [1.0, 1.0]
    assert [group.probability for group in curve] == sorted(group.probability for group in curve)


def test_fewer_slices_than_bins_are_a_bin_each() -> None:
    probability, tumor = np.array([0.1, 0.8]), np.array([False, True])
    assert len(metrics.calibration_curve(probability, tumor)) == 2
    assert metrics.calibration_error(probability, tumor) == pytest.approx(0.15)


def test_hd95_of_a_shifted_outline_is_the_shift() -> None:
    distances = OutlineDistances.between(square(20, 20), square(20, 23))
    assert distances is not None
    assert len(distances.predicted) == len(distances.true) == 76
    assert metrics.hd95([distances]) == 3.0


def test_hd95_takes_the_worse_direction() -> None:
    """Everything that was outlined is right; the other half of the tumor is far from it."""
    truth = square(5, 5, side=10) | square(45, 45, side=10)
    distances = OutlineDistances.between(square(5, 5, side=10), truth)
    assert distances is not None
    assert distances.predicted.max() == 0
    assert metrics.hd95([distances]) > math.hypot(31, 31)


def test_hd95_overlooks_a_stray_pixel_in_twenty() -> None:
    truth = square(10, 10)
    predicted = truth.copy()
    predicted[60, 60] = 1
    distances = OutlineDistances.between(predicted, truth)
    assert distances is not None
    assert distances.predicted.max() > 40
    assert metrics.hd95([distances]) == 0


def test_hd95_pools_the_slices_of_a_volume() -> None:
    apart = [OutlineDistances.between(square(20, 20), square(20, 20 + shift)) for shift in (0, 0, 0, 8)]
    assert metrics.hd95([found for found in apart if found]) == 8


def test_an_empty_mask_has_no_outline_and_one_at_the_border_has() -> None:
    empty, corner = np.zeros((64, 64), np.uint8), square(0, 0)
    assert OutlineDistances.between(empty, corner) is None
    assert OutlineDistances.between(corner, empty) is None
    assert math.isnan(metrics.hd95([]))
    distances = OutlineDistances.between(corner, corner)
    assert distances is not None
    assert len(distances.true) == 76


def test_interval_is_as_wide_as_there_are_few_patients() -> None:
    """40 patients of 10 equal slices tell as much as 40 slices, not as 400."""
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(size=40), 10)
    groups = [np.arange(start, start + 10) for start in range(0, 400, 10)]
    low, high = metrics.patient_interval(lambda rows: float(values[rows].mean()), groups)
    expected = 2 * 1.96 * values.std() / math.sqrt(40)
    assert high - low == pytest.approx(expected, rel=0.15)
    assert low < values.mean() < high


def test_one_patient_says_nothing_of_others() -> None:
    assert np.isnan(metrics.patient_interval(lambda rows: float(len(rows)), [np.arange(10)])).all()


def test_draws_in_which_a_figure_is_undefined_do_not_count() -> None:
    probability, tumor = np.array([0.1, 0.4, 0.3, 0.9]), np.array([False, False, True, True])
    groups = [np.array([0, 2]), np.array([1]), np.array([3])]
    low, high = metrics.patient_interval(lambda rows: metrics.auc(probability[rows], tumor[rows]), groups)
    assert 0 <= low < 0.75 < high <= 1
    undefined = metrics.patient_interval(lambda _: math.nan, groups)
    assert np.isnan(undefined).all()
