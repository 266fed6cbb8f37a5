"""Synthetic scans look like what they stand for, and are the same for everybody."""

import hashlib
from itertools import islice

import cv2
import numpy as np
import pytest
from numpy.random import PCG64, Generator

from gliogate.contract import CHANNELS, IMAGE, SLICE_SIZE
from gliogate.phantom import (
    LESION_AREA_PX,
    MAX_SERIES,
    Phantom,
    _draw_head,
    _grow_lesion,
    make_phantom,
    make_phantoms,
)

FLAIR = CHANNELS.index("FLAIR")
SEEDS = range(40)


@pytest.fixture(scope="module")
def tumors() -> list[Phantom]:
    return [make_phantom(seed, tumor=True) for seed in SEEDS]


@pytest.fixture(scope="module")
def healthy() -> list[Phantom]:
    return [make_phantom(seed, tumor=False) for seed in SEEDS]


def test_a_phantom_is_a_slice_and_its_mask(tumors: list[Phantom]) -> None:
    for phantom in tumors:
        assert phantom.image.shape == IMAGE.shape
        assert phantom.image.dtype == np.uint8
        assert phantom.mask.shape == (SLICE_SIZE, SLICE_SIZE)
        assert phantom.mask.dtype == np.uint8
        assert set(np.unique(phantom.mask)) == {0, 1}
        assert phantom.tumor
    assert make_phantom(7, tumor=True).name == "phantom-0007"


def test_without_a_tumor_the_mask_is_empty(healthy: list[Phantom]) -> None:
    assert not any(phantom.mask.any() or phantom.tumor for phantom in healthy)


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, again = make_phantom(11, tumor=True), make_phantom(11, tumor=True)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)


def test_no_two_are_alike(tumors: list[Phantom], healthy: list[Phantom]) -> None:
    pictures = {hashlib.sha256(phantom.image.tobytes()).digest() for phantom in tumors + healthy}
    assert len(pictures) == len(tumors) + len(healthy)
    masks = {phantom.mask.tobytes() for phantom in tumors}
    assert len(masks) == len(tumors)
    heads = [int((phantom.image.max(axis=2) > 25).sum()) for phantom in healthy]
    assert max(heads) > 1.8 * min(heads)  # from the middle of the head to the vertex


def test_lesion_areas_span_their_range(tumors: list[Phantom]) -> None:
    areas = [int(phantom.mask.sum()) for phantom in tumors]
    smallest, largest = LESION_AREA_PX
    assert all(smallest <= area <= largest for area in areas)
    assert min(areas) < 200
    assert max(areas) > 1500


def test_the_lesion_is_brighter_in_flair_than_the_tissue_around_it(tumors: list[Phantom]) -> None:
    for phantom in tumors:
        around = cv2.dilate(phantom.mask, np.ones((13, 13), np.uint8)) - cv2.dilate(phantom.mask, np.ones((5, 5)))
        flair = phantom.image[..., FLAIR]
        assert np.median(flair[phantom.mask == 1]) > 1.1 * np.median(flair[around == 1]), phantom.name


def test_the_lesion_is_the_only_difference_that_a_tumor_makes(tumors: list[Phantom], healthy: list[Phantom]) -> None:
    for ill, well in zip(tumors, healthy, strict=True):
        changed = np.abs(ill.image.astype(int) - well.image).max(axis=2)
        near = cv2.dilate(ill.mask, np.ones((25, 25), np.uint8)) == 1
        assert not changed[~near].any(), ill.name
        assert (changed[ill.mask == 1] > 0).mean() > 0.9, ill.name


def test_the_lesion_is_inside_the_brain(tumors: list[Phantom], healthy: list[Phantom]) -> None:
    # Seen from the healthy twin: where the lesion goes, there is tissue, neither air nor scalp fat, in T1.
    for ill, well in zip(tumors, healthy, strict=True):
        head = cv2.morphologyEx((well.image.max(axis=2) > 18).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((25, 25)))
        assert cv2.erode(head, np.ones((11, 11)))[ill.mask == 1].all(), ill.name


def test_one_threshold_does_not_find_the_lesions(tumors: list[Phantom]) -> None:
    flair = np.stack([phantom.image[..., FLAIR] for phantom in tumors])
    truth = np.stack([phantom.mask for phantom in tumors]) == 1
    dice = [2 * (truth & (flair > level)).sum() / (truth.sum() + (flair > level).sum()) for level in range(5, 255, 5)]
    assert max(dice) < 0.5


@pytest.mark.parametrize(("count", "prevalence", "expected"), [(20, 0.35, 7), (9, 0.0, 0), (9, 1.0, 9), (0, 0.5, 0)])
def test_a_series_has_exactly_its_prevalence(count: int, prevalence: float, expected: int) -> None:
    series = list(make_phantoms(count, prevalence=prevalence))
    assert len(series) == count
    assert sum(phantom.tumor for phantom in series) == expected


def test_a_series_is_shuffled_by_its_seed() -> None:
    orders = {tuple(phantom.tumor for phantom in make_phantoms(12, prevalence=0.5, seed=seed)) for seed in range(3)}
    assert len(orders) == 3


def test_a_phantom_of_a_series_can_be_made_again_from_its_name() -> None:
    third = list(make_phantoms(3, prevalence=1.0, seed=2))[2]
    again = make_phantom(2 * MAX_SERIES + 2, tumor=True)
    assert third.name == again.name
    np.testing.assert_array_equal(third.image, again.image)


def test_a_series_is_drawn_as_it_is_asked_for() -> None:
    first = next(islice(make_phantoms(MAX_SERIES, prevalence=1.0), 1))
    np.testing.assert_array_equal(first.image, make_phantom(0, tumor=True).image)


@pytest.mark.parametrize("prevalence", [-0.1, 1.01, float("nan")])
def test_prevalence_must_be_a_share(prevalence: float) -> None:
    with pytest.raises(ValueError, match=rf"prevalence must be in \[0, 1\], got {prevalence}"):
        make_phantoms(3, prevalence=prevalence)


@pytest.mark.parametrize("count", [-1, MAX_SERIES + 1])
def test_count_must_be_possible(count: int) -> None:
    with pytest.raises(ValueError, match=rf"count must be in 0..{MAX_SERIES}, got {count}"):
        make_phantoms(count)


def test_seed_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="seed must be 0 or more, got -4"):
        make_phantom(-4, tumor=True)
    with pytest.raises(ValueError, match="seed must be 0 or more, got -4"):
        make_phantoms(1, seed=-4)


def test_a_head_without_deep_brain_has_its_lesion_in_the_cortex() -> None:
    phantom = make_phantom(999 * MAX_SERIES + 89, tumor=True)

    assert phantom.name == "phantom-999000089"
    assert phantom.tumor


@pytest.mark.parametrize("pixels", [0, 1, 3])
def test_a_head_of_hardly_any_brain_has_a_lesion_all_the_same(pixels: int) -> None:
    head = _draw_head(Generator(PCG64(0)))
    parenchyma = np.zeros_like(head.parenchyma)
    parenchyma.flat[parenchyma.size // 2 : parenchyma.size // 2 + pixels] = 1

    mask = _grow_lesion(Generator(PCG64(1)), head._replace(parenchyma=parenchyma))

    assert 0 < mask.sum() < LESION_AREA_PX[0]
