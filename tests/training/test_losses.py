"""The losses, at values that can be known beforehand."""

import numpy as np
import pytest

from training.losses import FocalTversky

LOGIT = 20.0


@pytest.fixture
def truth() -> np.ndarray:
    masks = np.zeros((2, 32, 32), np.float32)
    masks[0, 8:24, 8:24] = 1
    return masks


def as_logits(mask: np.ndarray) -> np.ndarray:
    return np.where(mask > 0, LOGIT, -LOGIT).astype(np.float32)


def test_a_perfect_mask_costs_nothing(truth: np.ndarray) -> None:
    assert float(FocalTversky()(truth, as_logits(truth))) == pytest.approx(0, abs=1e-3)


def test_an_empty_batch_that_is_found_empty_costs_nothing(truth: np.ndarray) -> None:
    empty = np.zeros_like(truth)
    assert float(FocalTversky()(empty, as_logits(empty))) == pytest.approx(0, abs=1e-3)


def test_missed_pixels_cost_more_than_wrong_ones(truth: np.ndarray) -> None:
    missed, wrong = truth.copy(), truth.copy()
    missed[0, 8:24, 8:12] = 0
    wrong[0, 8:24, 24:28] = 1
    loss = FocalTversky()
    assert float(loss(truth, as_logits(missed))) > float(loss(truth, as_logits(wrong)))


def test_known_value(truth: np.ndarray) -> None:
    """Half of 256 pixels missed: index 128/(128 + 0.6·128), cross-entropy 20 on 128 of 2048 pixels."""
    half = truth.copy()
    half[0, 8:16] = 0
    expected = (1 - 129 / (129 + 0.6 * 128)) ** 0.75 + LOGIT * 128 / 2048
    assert float(FocalTversky()(truth, as_logits(half))) == pytest.approx(expected, rel=1e-3)


def test_coarse_map_is_held_against_the_share_of_tumor_in_each_cell(truth: np.ndarray) -> None:
    cells = np.zeros((2, 4, 4), np.float32)
    cells[0, 1:3, 1:3] = 1
    assert float(FocalTversky()(truth, as_logits(cells))) == pytest.approx(0, abs=1e-3)
    assert float(FocalTversky()(truth, as_logits(1 - cells))) > LOGIT / 2
