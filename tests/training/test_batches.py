"""What a network is shown in an epoch, and how it is changed."""

from pathlib import Path

import numpy as np
import pytest

from training.augment import augment
from training.batches import EpochBatches, Sampling
from training.data import Dataset, phantoms, read_kaggle


@pytest.fixture(scope="module")
def real(kaggle: Path) -> Dataset:
    return read_kaggle(kaggle)


@pytest.fixture(scope="module")
def synthetic() -> Dataset:
    return phantoms(20, prevalence=0.5, seed=1)


def epoch(real: Dataset, synthetic: Dataset, number: int, *, target: str = "mask", share: float = 0.1) -> EpochBatches:
    sampling = Sampling(batch_size=6, size=128, phantoms=share)
    return EpochBatches(real, synthetic, sampling, target=target, epoch=number, seed=0)


def test_an_epoch_shows_every_tumor_slice_as_many_others_and_some_phantoms(real: Dataset, synthetic: Dataset) -> None:
    rows = epoch(real, synthetic, 0).rows
    shown = [source.tumor[row] for source, row in rows if source is real]
    assert (sum(shown), len(shown)) == (30, 60)
    assert sum(source is synthetic for source, _ in rows) == 6


def test_the_same_epoch_shows_the_same_and_the_next_something_else(real: Dataset, synthetic: Dataset) -> None:
    images, masks = epoch(real, synthetic, 4)[2]
    again, masks_again = epoch(real, synthetic, 4)[2]
    other, _ = epoch(real, synthetic, 5)[2]
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(masks, masks_again)
    assert not np.array_equal(images, other)


def test_batches_have_the_size_asked_for(real: Dataset, synthetic: Dataset) -> None:
    images, masks = epoch(real, synthetic, 0)[0]
    assert (images.shape, images.dtype) == ((6, 128, 128, 3), np.uint8)
    assert (masks.shape, masks.dtype) == ((6, 128, 128), np.float32)


def test_a_detector_learns_whether_and_where(real: Dataset, synthetic: Dataset) -> None:
    _, targets = epoch(real, synthetic, 0, target="tumor")[0]
    assert targets["tumor"].shape == (6, 1)
    np.testing.assert_array_equal(targets["tumor"][:, 0], targets["where"].any(axis=(1, 2)))


def test_mask_moves_with_the_image() -> None:
    """A picture that is its own mask still is, up to the softer edge of an interpolated picture."""
    mask = np.zeros((256, 256), np.uint8)
    mask[90:150, 60:130] = 1
    image = np.repeat(mask[..., np.newaxis] * 255, 3, axis=2)
    moved = False
    for seed in range(20):
        changed, changed_mask = augment(image, mask, np.random.default_rng(seed))
        bright = changed[..., 1] > changed[..., 1].max() / 2
        assert np.count_nonzero(bright != changed_mask) < 0.05 * np.count_nonzero(mask)
        moved |= not np.array_equal(mask, changed_mask)
    assert moved


def test_missing_sequences_become_flair_in_about_one_of_seven() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    changed = [augment(image, mask, np.random.default_rng(seed))[0] for seed in range(200)]
    dropped = [any(np.array_equal(c[..., 1], c[..., other]) for other in (0, 2)) for c in changed]
    assert 15 <= sum(dropped) <= 45
