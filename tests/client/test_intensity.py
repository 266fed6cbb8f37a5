"""Which values become black and white: those of the head, whatever else a picture holds."""

import numpy as np
import pytest

from gliogate.images import load_picture
from gliogate.intensity import value_range
from gliogate.phantom import make_phantom
from gliogate.volumes import read_volume

SLICES = 4
HEAD = np.stack([make_phantom(3, tumor=True).image[..., 1]] * SLICES).astype(np.float32) * 5
"""With noise around it that is never below 0, as scanners give it."""


def shown(head):
    return read_volume(head).slices[..., 1].astype(int)


def test_the_whole_range_is_shown_where_nothing_is_odd():
    found = value_range(HEAD)

    assert (found.black, found.white) == (0, pytest.approx(np.percentile(HEAD, 99.9)))
    assert found.outside is None
    assert found.notes == ()


@pytest.mark.parametrize(("value", "words"), [(4095, "far brighter than all others"), (-3000, "far darker than all")])
def test_a_burned_in_mark_darkens_no_head(value, words):
    marked = HEAD.copy()
    marked[:, :16, :20] = value

    volume = read_volume(marked)

    inside = np.s_[:, 40:, 40:]
    assert np.abs(volume.slices[..., 1].astype(int) - shown(HEAD))[inside].max() <= 40
    assert any(words in note for note in volume.notes)
    assert np.abs(load_picture(marked[0])[40:, 40:, 1].astype(int) - shown(HEAD)[0, 40:, 40:]).max() <= 40


def test_one_voxel_far_below_changes_nothing():
    marked = HEAD.copy()
    marked[0, 0, 0] = -3000

    assert np.abs(shown(marked) - shown(HEAD))[:, 1:].max() <= 1


@pytest.mark.parametrize("scale", [1 / 1275, 1e-6, 1e6])
def test_floats_of_another_scale_give_the_same(scale):
    assert np.abs(shown(HEAD * scale + 7 * scale) - shown(HEAD)).max() <= 1


def test_z_scores_within_the_head_have_a_black_outside():
    brain = HEAD > 60  # Without the noise around it.
    stripped, scores = np.where(brain, HEAD, 0), np.zeros_like(HEAD)
    scores[brain] = (HEAD[brain] - HEAD[brain].mean()) / HEAD[brain].std()

    volume = read_volume(scores)

    assert volume.slices[0, 0, 0, 1] == 0
    assert np.abs(volume.slices[..., 1].astype(int) - shown(stripped)).max() <= 30
    assert any("the value around the head, 0, lies among those of the head" in note for note in volume.notes)


@pytest.mark.parametrize("values", [np.zeros((2, 8, 8)), np.full((2, 8, 8), 3.0), np.eye(64)[np.newaxis]])
def test_hardly_any_values_are_no_error(values):
    found = value_range(values)

    assert found.black <= found.white
    assert found.white == values.max()
