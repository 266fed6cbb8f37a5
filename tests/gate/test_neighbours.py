"""Neighbours in a head: weighed by millimetres, calibrated, and read from the operating point."""

import json

import numpy as np
import pytest

from gate.gating import InvalidValueError
from gate.neighbours import Neighbours, read_neighbours
from gliogate import contract

PLAIN = Neighbours(reach_mm=10.0, assumed_spacing_mm=5.0, slope=1.0, offset=0.0)


def probabilities(*logits):
    return 1 / (1 + np.exp(-np.array(logits, np.float32)[:, np.newaxis]))


def logits(probability):
    return np.log(probability / (1 - probability))[:, 0]


def test_a_neighbour_weighs_the_less_the_farther_it_is():
    weights = PLAIN.weights(4, 5.0)

    expected = [[2 / 3, 1 / 3, 0, 0], [1 / 4, 1 / 2, 1 / 4, 0], [0, 1 / 4, 1 / 2, 1 / 4], [0, 0, 1 / 3, 2 / 3]]
    np.testing.assert_allclose(weights, expected)


def test_logits_are_averaged_and_made_a_probability():
    found = PLAIN.judge(probabilities(0, 4, 0), 5.0)

    assert found.dtype == np.float32
    assert found.shape == (3, 1)
    np.testing.assert_allclose(logits(found), [4 / 3, 2, 4 / 3], rtol=1e-5)


def test_slices_that_are_farther_apart_than_the_reach_are_judged_alone():
    found = PLAIN.judge(probabilities(-2, 4, 1), 10.0)

    np.testing.assert_allclose(logits(found), [-2, 4, 1], rtol=1e-5)


def test_thin_slices_of_the_same_head_are_judged_as_thick_ones():
    """Every slice three times, at a third of the distance: a slice in the middle of them is judged much as before."""
    thick = probabilities(-3, -3, 5, 5, -3, -3)
    thin = np.repeat(thick, 3, axis=0)

    once, thrice = (logits(PLAIN.judge(each, spacing)) for each, spacing in ((thick, 6.0), (thin, 2.0)))

    np.testing.assert_allclose(thrice[1::3], once, atol=0.7)
    assert (np.sign(thrice[1::3]) == np.sign(once)).all()


def test_without_a_spacing_one_is_assumed():
    some = probabilities(1, -2, 3)

    np.testing.assert_array_equal(PLAIN.judge(some, None), PLAIN.judge(some, 5.0))
    assert contract.ASSUMED_SPACING_MM == 5.0


def test_the_average_is_calibrated():
    fitted = Neighbours(reach_mm=10.0, assumed_spacing_mm=5.0, slope=2.0, offset=-1.0)

    np.testing.assert_allclose(logits(fitted.judge(probabilities(1, 1), 5.0)), [1, 1], rtol=1e-5)


def test_a_detector_that_is_sure_does_not_make_the_others_endless():
    found = PLAIN.judge(np.array([[1.0], [0.0], [0.5]], np.float32), 5.0)

    assert np.isfinite(logits(found)).all()
    assert 0 < found.min() < found.max() < 1


def test_one_slice_is_a_head_too():
    np.testing.assert_allclose(PLAIN.judge(probabilities(1.5), 5.0), probabilities(1.5), rtol=1e-6)


@pytest.mark.parametrize("thickness", [0.7, 1.0, 3.0, 5.0])
def test_a_part_with_the_contracts_context_is_judged_as_in_the_whole(thickness):
    far = Neighbours(reach_mm=contract.CONTEXT_MM, assumed_spacing_mm=5.0, slope=1.0, offset=0.0)
    some = probabilities(*np.random.default_rng(0).normal(size=120))
    context = int(np.ceil(contract.CONTEXT_MM / thickness)) - 1

    whole = far.judge(some, thickness)
    part = far.judge(some[50 - context : 60 + context], thickness)

    np.testing.assert_allclose(part[context : context + 10], whole[50:60], rtol=1e-6)


def test_an_operating_point_of_single_slices_has_none(tmp_path):
    path = tmp_path / "operating_point.json"
    path.write_text('{"detection_threshold": 0.5}')

    assert read_neighbours(path) is None


def test_it_is_read(tmp_path):
    path = tmp_path / "operating_point.json"
    path.write_text(json.dumps({"neighbours": vars(PLAIN)}))

    assert read_neighbours(path) == PLAIN


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"reach_mm": 0}, "neighbours.reach_mm is 0, expected a number above 0"),
        ({"slope": -1}, "neighbours.slope is -1, expected a number above 0"),
        ({"offset": "low"}, "neighbours.offset is 'low', expected a number"),
        ({"offset": True}, "neighbours.offset is True"),
        ({"assumed_spacing_mm": float("nan")}, "neighbours.assumed_spacing_mm is nan"),
        ({"more": 1}, "neighbours: expected the numbers reach_mm"),
    ],
)
def test_one_that_makes_no_sense_is_refused_by_its_file(tmp_path, changed, reason):
    path = tmp_path / "operating_point.json"
    path.write_text(json.dumps({"neighbours": vars(PLAIN) | changed}))

    with pytest.raises(InvalidValueError, match=reason) as refused:
        read_neighbours(path)
    assert str(path) in str(refused.value)
