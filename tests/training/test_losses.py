"""The losses, at values that can be known beforehand."""

import keras
import numpy as np
import pytest

from training.losses import LOSSES, loss_of

LOGIT = 20.0


@pytest.fixture
def truth() -> np.ndarray:
    """One of two masks shows 256 pixels of tumor."""
    masks = np.zeros((2, 32, 32), np.float32)
    masks[0, 8:24, 8:24] = 1
    return masks


@pytest.fixture
def half(truth: np.ndarray) -> np.ndarray:
    """The upper half of the tumor is missed, nothing else is found."""
    mask = truth.copy()
    mask[0, 8:16] = 0
    return mask


def as_logits(mask: np.ndarray) -> np.ndarray:
    return np.where(mask > 0, LOGIT, -LOGIT).astype(np.float32)


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_mask_costs_nothing(name: str, truth: np.ndarray) -> None:
    assert float(loss_of(name)(truth, as_logits(truth))) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("bce", LOGIT * 128 / 2048),
        ("dice", 1 - 2 * 128 / (128 + 256)),
        ("tversky", 1 - 128 / (128 + 0.7 * 128)),
        ("tversky(0.6)", 1 - 128 / (128 + 0.6 * 128)),
        ("focal_tversky", (1 - 128 / (128 + 0.7 * 128)) ** 0.75),
        ("focal_tversky(0.6, 0.5)", (1 - 128 / (128 + 0.6 * 128)) ** 0.5),
        ("dice + bce", 1 - 2 * 128 / (128 + 256) + LOGIT * 128 / 2048),
    ],
)
def test_half_of_the_tumor_missed(formula: str, expected: float, truth: np.ndarray, half: np.ndarray) -> None:
    assert float(loss_of(formula)(truth, as_logits(half))) == pytest.approx(expected, rel=1e-3)


def test_missed_pixels_cost_more_than_wrong_ones(truth: np.ndarray) -> None:
    """Keras's documentation of `Tversky` has its two weights the other way round."""
    missed, wrong = truth.copy(), truth.copy()
    missed[0, 8:24, 8:12] = 0
    wrong[0, 8:24, 24:28] = 1
    loss = loss_of("tversky")
    assert float(loss(truth, as_logits(missed))) > float(loss(truth, as_logits(wrong)))


@pytest.mark.parametrize("formula", ["lovasz", "dice - bce", "dice +", "", "tversky(0.7, 1, 2)", "dice(a)"])
def test_what_is_no_loss_is_named(formula: str) -> None:
    with pytest.raises(ValueError, match=r"no loss|too many numbers"):
        loss_of(formula)


def test_a_saved_loss_is_the_same_when_loaded(truth: np.ndarray, half: np.ndarray) -> None:
    loss = loss_of("focal_tversky(0.6) + bce")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(again(truth, as_logits(half))) == float(loss(truth, as_logits(half)))
