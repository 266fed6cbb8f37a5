"""Heads judged as a whole: calibrated on some, told of others, kept and read again."""

import json

import numpy as np
import pytest
from scipy.special import expit
from support.calibrations import made_up

from gate.gating import CERTAINTY, SLICE, Request, Settings, read_operating_point, read_reliability, run
from gate.neighbours import read_neighbours
from training.calibrate import Calibration
from training.calibration import MaskScaling, PlattScaling
from training.data import Dataset
from training.evaluate import in_heads
from training.heads import HEAD_MM, HeadCalibration, heads_of, judged, unbiased_edge
from training.levels import Levels
from training.networks import Logits

SIZE = 32
SLICES = 24


def drawn(patients: int, *, seed: int) -> tuple[Logits, Dataset]:
    """Heads with a tumor in the middle third, and networks that err in single slices and at rims."""
    rng = np.random.default_rng(seed)
    tumor = np.tile((np.arange(SLICES) // (SLICES // 3)) == 1, patients)
    masks = np.zeros((patients * SLICES, SIZE, SIZE), np.uint8)
    for row in np.flatnonzero(tumor):
        masks[row, 8 : 8 + rng.integers(6, 16), 8:20] = 1
    logits = (masks * 8.0 - 4) + rng.normal(0, 1.5, masks.shape)
    logits[:, 8:24, 20:22] = rng.normal(1, 1, (len(masks), 16, 2))
    images = np.zeros((*masks.shape, 3), np.uint8)
    names = np.repeat([f"patient-{seed}-{number:02d}" for number in range(patients)], SLICES)
    said = np.where(tumor, 1.5, -1.5) + rng.normal(0, 1.5, len(tumor))
    return Logits(said.astype(np.float32), logits.astype(np.float16)), Dataset(names, names, images, masks)


def test_neighbours_tell_slices_apart_better_than_each_alone() -> None:
    logits, dataset = drawn(12, seed=1)
    calibration = Calibration.measure(logits, dataset, sensitivity=0.95)

    assert calibration.heads.point.sensitivity >= 0.95
    assert calibration.heads.point.specificity > calibration.point.specificity + 0.1


def test_each_slice_is_judged_in_its_own_head_and_in_no_others() -> None:
    logits, dataset = drawn(3, seed=2)
    calibration = Calibration.measure(logits, dataset, sensitivity=0.95)
    probability = calibration.scaling(logits.tumor)
    [(_, rows), *_] = dataset.volumes()

    together = judged(calibration.heads.neighbours, probability, dataset)
    alone = calibration.heads.neighbours.judge(probability[rows, np.newaxis], HEAD_MM / SLICES)[:, 0]

    np.testing.assert_array_equal(together[rows], alone)


def test_what_was_calibrated_on_others_holds_what_it_promises() -> None:
    parts = [drawn(20, seed=seed) for seed in (3, 4)]
    calibrations = [Calibration.measure(*part, sensitivity=0.95) for part in reversed(parts)]

    worth = in_heads(parts, calibrations, threshold=0.5)["in_heads"]["reliability"]

    assert worth["heads"] == 40
    assert 0.8 <= worth["share_of_true_volumes_in_their_interval"] <= 1
    assert worth["pixel_calibration_error_between_0.02_and_0.98"] < 0.06
    assert 1 <= worth["flagged"] <= 16
    json.dumps(worth, allow_nan=False)


def test_certainty_is_that_of_each_slice_weighed_by_what_is_outlined() -> None:
    logits, dataset = drawn(1, seed=5)
    scaling = MaskScaling(1.0, 0.0, 0.0, 0.0, 2.5)
    opened = dataset.tumor.copy()

    found = heads_of(logits, dataset, opened, scaling, 0.5)

    request = Request(np.zeros((SLICES, *SLICE), np.uint8), Settings(0.5, float(expit(0.5))), frozenset((CERTAINTY,)))
    planes = np.zeros((SLICES, *SLICE[:2]), np.float32)
    planes[:, :SIZE, :SIZE] = expit(logits.mask.astype(np.float32))
    [answer] = run([request], lambda _: opened[:, np.newaxis].astype(np.float32), lambda _: planes[opened])
    area = np.count_nonzero(logits.mask[opened] >= 0.5, axis=(1, 2))
    assert found.certainty == pytest.approx([np.average(answer[CERTAINTY][opened, 0], weights=area)], rel=1e-5)
    assert found.outlined.tolist() == [area.sum()]
    assert found.true.tolist() == [np.count_nonzero(dataset.masks)]


def test_volumes_are_said_too_large_as_often_as_too_small() -> None:
    logits, dataset = drawn(20, seed=9)
    opened = dataset.tumor
    at_zero, at_edge = (
        heads_of(logits, dataset, opened, MaskScaling(1.0, 0.0, 0.0, 0.0, 2.5), edge)
        for edge in (0.0, unbiased_edge(logits, dataset, opened))
    )

    assert np.median(at_zero.outlined / at_zero.true) > 1.1
    assert np.median(at_edge.outlined / at_edge.true) == pytest.approx(1, abs=0.1)


def test_a_networks_own_level_is_taken_out_and_masks_stay() -> None:
    logits = np.array([-8.0, -4.0, -1.0, 0.0, 2.0], np.float32)

    assert Levels(-4.0)(logits).tolist() == [-10, -5, -1.25, 0, 2]
    # One that has learned nothing says about 0 everywhere.
    np.testing.assert_array_equal(Levels(-0.1)(logits), logits)


def test_a_head_with_nothing_outlined_counts_and_breaks_nothing() -> None:
    logits, dataset = drawn(2, seed=6)
    nothing = Logits(logits.tumor, np.full_like(logits.mask, -5))
    calibration = Calibration.measure(nothing, dataset, sensitivity=0.95)

    worth = in_heads([(nothing, dataset)], [calibration], threshold=0.5)["in_heads"]["reliability"]

    assert worth["said_over_true_volume_median"] == 0
    assert worth["share_of_true_volumes_in_their_interval"] == 0
    json.dumps(worth, allow_nan=False)


def test_it_is_kept_and_read_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    calibration = made_up(("a", "b"))
    calibration.write(tmp_path)

    assert Calibration.read(tmp_path) == calibration
    assert HeadCalibration.from_json(json.loads(json.dumps(calibration.heads.as_json()))) == calibration.heads


def test_what_is_served_is_what_the_gate_reads(tmp_path) -> None:  # type: ignore[no-untyped-def]
    calibration = made_up(("a", "b"))
    path = tmp_path / "operating_point.json"

    path.write_text(json.dumps(calibration.for_heads()))
    assert read_neighbours(path) == calibration.heads.neighbours
    assert read_reliability(path) == (0.8, 0.9, 1.1, 0.5, 2.0)
    assert read_operating_point(path).mask_threshold == pytest.approx(expit(0.3 * 0.5 - 0.4))

    path.write_text(json.dumps(calibration.for_slices()))
    assert read_neighbours(path) is None
    assert read_operating_point(path).detection_threshold == calibration.point.detection_threshold


def test_masks_stay_as_they_are_and_probabilities_mean_what_they_say() -> None:
    logits, dataset = drawn(10, seed=7)
    scaling = MaskScaling.fit(logits.mask, dataset.masks)
    said = logits.mask.astype(np.float32)
    probability = PlattScaling(1.0, 0.0)(scaling(said))

    np.testing.assert_array_equal(probability >= expit(scaling(np.float32(0))), said >= 0)
    for low in (0.1, 0.3, 0.5, 0.7):
        group = (probability >= low) & (probability < low + 0.2)
        assert dataset.masks[group].mean() == pytest.approx(probability[group].mean(), abs=0.06)


def test_without_one_of_the_classes_logits_stay() -> None:
    logits, dataset = drawn(1, seed=8)

    assert MaskScaling.fit(logits.mask, np.zeros_like(dataset.masks))(np.float32(1.25)) == 1.25
    assert MaskScaling.fit([], [])(np.float32(-3)) == -3
