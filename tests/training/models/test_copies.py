"""What is a copy of FLAIR is blanked, what is not stays as it is, and the network's answer says that it was."""

import keras
import numpy as np
import pytest

from training.models.copies import BlankCopies
from training.models.resunet_multitask import resunet_multitask


@pytest.fixture(scope="module")
def blank() -> BlankCopies:
    return BlankCopies()


@pytest.fixture(scope="module")
def complete(slices: np.ndarray) -> np.ndarray:
    """Slices of which no sequence is a copy, as some phantoms' are."""
    flair = slices[..., 1]
    return np.stack([flair // 2, flair, flair // 3 * 2], axis=-1)


def test_sequences_of_their_own_stay_as_they_are(blank: BlankCopies, complete: np.ndarray) -> None:
    np.testing.assert_array_equal(blank(complete), complete.astype(np.float32))


@pytest.mark.parametrize("missing", [(0,), (2,), (0, 2)])
def test_copies_are_blanked_slice_by_slice(blank: BlankCopies, complete: np.ndarray, missing: tuple[int, ...]) -> None:
    copied, expected = complete.copy(), complete.astype(np.float32)
    for channel in missing:
        copied[1, ..., channel] = copied[1, ..., 1]
        expected[1, ..., channel] = 0
    np.testing.assert_array_equal(blank(copied), expected)


def test_a_copy_that_a_lossy_file_changed_is_still_one(blank: BlankCopies, slices: np.ndarray) -> None:
    copied = slices.astype(int)
    copied[..., 0] = copied[..., 1] + np.random.default_rng(0).integers(-1, 2, copied.shape[:3])
    blanked = np.asarray(blank(np.clip(copied, 0, 255).astype(np.uint8)))
    assert not blanked[..., 0].any()
    assert blanked[..., 1].any()


def test_a_black_slice_stays_black(blank: BlankCopies) -> None:
    assert not np.asarray(blank(np.zeros((1, 64, 64, 3), np.uint8))).any()


def test_a_grey_picture_and_flair_alone_get_the_same_answer(slices: np.ndarray) -> None:
    keras.utils.set_random_seed(0)
    network = resunet_multitask(size=None, filters=(4, 4, 4, 4, 4), depths=(1, 1, 1, 1, 1))
    alone = np.zeros_like(slices)
    alone[..., 1] = slices[..., 1]
    grey = np.repeat(slices[..., 1:2], 3, axis=-1)
    for output, said in network.predict_on_batch(grey).items():
        np.testing.assert_allclose(said, network.predict_on_batch(alone)[output], atol=1e-5)
