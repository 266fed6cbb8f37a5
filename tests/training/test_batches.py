"""What a network is shown in an epoch, and how it is changed."""

from pathlib import Path

import numpy as np
import pytest

from training.augment import augment
from training.batches import EpochBatches
from training.data import Dataset, phantoms, read_kaggle
from training.recipe import Augmentation, Phase, Stage

WHOLE = Phase(epochs=1)
HALF = Phase(epochs=1, scale=0.5)


@pytest.fixture(scope="module")
def real(kaggle: Path) -> Dataset:
    return read_kaggle(kaggle)


@pytest.fixture(scope="module")
def synthetic() -> Dataset:
    return phantoms(20, prevalence=0.5, seed=1)


def epoch(real: Dataset, synthetic: Dataset, number: int, phase: Phase = HALF, **choices: object) -> EpochBatches:
    losses = {"tumor": "bce", "where": "bce", "mask": "bce"}
    stage = Stage(network="resunet_multitask", losses=losses, phases=(phase,), batch_size=6, **choices)
    return EpochBatches(real, synthetic, stage, phase, epoch=number, seed=0)


def test_an_epoch_shows_every_tumor_slice_as_many_others_and_some_phantoms(real: Dataset, synthetic: Dataset) -> None:
    rows = epoch(real, synthetic, 0).rows
    shown = [source.tumor[row] for source, row in rows if source is real]
    assert (sum(shown), len(shown)) == (30, 60)
    assert sum(source is synthetic for source, _ in rows) == 6


def test_without_others_it_shows_tumor_only(real: Dataset, synthetic: Dataset) -> None:
    rows = epoch(real, synthetic, 0, others=0.0, phantoms=0.5).rows
    assert all(source.tumor[row] for source, row in rows)
    assert any(source is synthetic for source, _ in rows)


@pytest.mark.parametrize(("evenness", "of_few"), [(0.0, 3), (0.5, 8), (1.0, 15)])
def test_patients_with_few_tumor_slices_are_drawn_more_often(
    real: Dataset, synthetic: Dataset, evenness: float, of_few: int
) -> None:
    """Of one with 3 and one with 27, the first is shown 3 times in 30, 7.5 times, and as often as the second."""
    tumor = np.flatnonzero(real.tumor)
    uneven = Dataset(np.where(np.arange(len(tumor)) < 3, "few", "many"), *(
        array[tumor] for array in (real.names, real.images, real.masks)
    ))  # fmt: skip

    rows = [row for source, row in epoch(uneven, synthetic, 0, evenness=evenness).rows if source is uneven]

    assert len(rows) == 30
    assert sum(uneven.patients[row] == "few" for row in rows) == pytest.approx(of_few, abs=1)
    assert len(set(rows)) >= 15


def test_the_same_epoch_shows_the_same_and_the_next_something_else(real: Dataset, synthetic: Dataset) -> None:
    images, targets = epoch(real, synthetic, 4)[2]
    again, targets_again = epoch(real, synthetic, 4)[2]
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(targets["mask"], targets_again["mask"])
    batches = epoch(real, synthetic, 4)
    batches.on_epoch_end()
    assert not np.array_equal(images, batches[2][0])
    np.testing.assert_array_equal(batches[2][0], epoch(real, synthetic, 5)[2][0])


@pytest.mark.parametrize(("phase", "size"), [(WHOLE, 256), (HALF, 128), (Phase(epochs=1, window=192, scale=0.5), 96)])
def test_batches_have_the_phases_size(real: Dataset, synthetic: Dataset, phase: Phase, size: int) -> None:
    images, targets = epoch(real, synthetic, 0, phase)[0]
    assert (images.shape, images.dtype) == ((6, size, size, 3), np.uint8)
    assert {output: array.shape for output, array in targets.items()} == {
        "tumor": (6, 1),
        "where": (6, size // 8, size // 8),
        "mask": (6, size, size),
    }
    assert {array.dtype for array in targets.values()} == {np.dtype(np.float32)}


def test_the_three_targets_agree(real: Dataset, synthetic: Dataset) -> None:
    _, targets = epoch(real, synthetic, 0)[0]
    np.testing.assert_array_equal(targets["tumor"][:, 0], targets["mask"].any(axis=(1, 2)))
    np.testing.assert_allclose(targets["where"].mean(axis=(1, 2)), targets["mask"].mean(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("phase", [WHOLE, HALF, Phase(epochs=1, window=224)])
def test_mask_moves_with_the_image(phase: Phase) -> None:
    """A picture that is its own mask still is, up to the softer edge of an interpolated picture."""
    mask = np.zeros((256, 256), np.uint8)
    mask[90:150, 60:130] = 1
    image = np.repeat(mask[..., np.newaxis] * 255, 3, axis=2)
    shown = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        changed, changed_mask = augment(image, mask, phase, Augmentation(shear=0.1, drop_sequences=0), rng)
        bright = changed[..., 1] > changed[..., 1].max() / 2
        assert np.count_nonzero(bright != changed_mask) < 0.08 * np.count_nonzero(changed_mask)
        shown.add(changed_mask.tobytes())
    assert len(shown) == 20


def test_no_augmentation_shows_the_slice_as_it_is(real: Dataset) -> None:
    nothing = Augmentation(flip=False, rotation=0, zoom=0, shift=0, contrast=0, drop_sequences=0)
    image, mask = augment(real.images[0], real.masks[0], WHOLE, nothing, np.random.default_rng(0))
    np.testing.assert_array_equal(image, real.images[0])
    np.testing.assert_array_equal(mask, real.masks[0])


def test_a_window_keeps_the_head_in_sight(real: Dataset) -> None:
    """The middle of a phantom's head is in every window of three quarters of the slice."""
    marked = real.images[0].copy()
    marked[124:132, 124:132] = (0, 255, 0)
    for seed in range(30):
        shown, _ = augment(
            marked,
            real.masks[0],
            Phase(epochs=1, window=192),
            Augmentation(contrast=0, drop_sequences=0),
            np.random.default_rng(seed),
        )
        assert (shown[..., 1].astype(int) - shown[..., 0] > 150).any()


def test_missing_sequences_become_flair_in_about_one_of_seven() -> None:
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3)).astype(np.uint8)
    mask = np.zeros((256, 256), np.uint8)
    changed = [augment(image, mask, HALF, Augmentation(), np.random.default_rng(seed))[0] for seed in range(200)]
    dropped = [any(np.array_equal(c[..., 1], c[..., other]) for other in (0, 2)) for c in changed]
    assert 15 <= sum(dropped) <= 45


def test_a_sequence_that_was_missing_stays_so_whatever_is_changed() -> None:
    image = np.random.default_rng(0).integers(0, 250, (256, 256, 3)).astype(np.uint8)
    image[..., 2] = image[..., 1] + np.random.default_rng(1).integers(0, 3, (256, 256))
    changes = Augmentation(noise=1.0, bias_field=1.0, drop_sequences=0)
    for seed in range(10):
        changed, _ = augment(image, np.zeros((256, 256), np.uint8), WHOLE, changes, np.random.default_rng(seed))
        np.testing.assert_array_equal(changed[..., 2], changed[..., 1])
        assert not np.array_equal(changed[..., 0], changed[..., 1])
