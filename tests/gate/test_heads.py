"""A head as array code: detected in chunks, weighed, gated as a whole; context is looked at and not answered."""

import numpy as np
import pytest
from support.device_arrays import Device, DeviceArray
from support.tiny_networks import FLAIR, slices

from gate import gating, heads
from gate.neighbours import Neighbours
from gliogate import contract

MASK, PROBABILITY, SEGMENTED = gating.TUMOR_MASK, gating.TUMOR_PROBABILITY, gating.SEGMENTED
OUTPUTS = frozenset((MASK, PROBABILITY, SEGMENTED))
POINT = gating.Settings(detection_threshold=0.5, mask_threshold=0.5)
NEIGHBOURS = Neighbours(reach_mm=10.0, assumed_spacing_mm=5.0, slope=1.0, offset=0.0)


class Network:
    """One of the tiny networks, that remembers how many slices it was asked about at a time."""

    def __init__(self, answer):
        self.answer, self.calls = answer, []

    def __call__(self, images):
        self.calls.append(len(images))
        if isinstance(images, DeviceArray):
            return DeviceArray(self.answer(images._values))
        return self.answer(images)


@pytest.fixture
def detect():
    return Network(lambda images: images[..., FLAIR].mean(axis=(1, 2), keepdims=True)[..., 0] / np.float32(255))


@pytest.fixture
def segment():
    return Network(lambda images: images[..., FLAIR] / np.float32(255))


def head(images, *, settings=POINT, outputs=OUTPUTS, context=(0, 0), spacing_mm=5.0, is_cancelled=lambda: False):
    request = gating.Request(images, settings, frozenset(outputs), is_cancelled)
    return heads.head_of(request, context=context, spacing_mm=spacing_mm)


def test_neighbours_open_and_shut_the_gate(detect, segment):
    images = slices(0.25, 0.25, 0.6875, 0.25, 0.125, 0.75, 0.75, 0.4375, 0.75)

    answer = heads.run(head(images), detect, segment, NEIGHBOURS, at_once=4)

    alone = detect.answer(images)[:, 0] >= 0.5
    assert alone.tolist() == [False, False, True, False, False, True, True, False, True]
    assert answer[SEGMENTED][:, 0].tolist() == [False] * 5 + [True] * 4
    assert answer[MASK].any(axis=(1, 2)).tolist() == answer[SEGMENTED][:, 0].tolist()
    np.testing.assert_array_equal(answer[PROBABILITY], NEIGHBOURS.judge(detect.answer(images), 5.0))


def test_the_networks_are_asked_in_chunks_and_the_segmenter_about_what_passes(detect, segment):
    heads.run(head(slices(*[0.25] * 7, *[0.75] * 6)), detect, segment, NEIGHBOURS, at_once=4)

    assert detect.calls == [4, 4, 4, 1]
    assert segment.calls == [4, 2]


def test_context_is_looked_at_and_not_answered(detect, segment):
    images = slices(0.9375, 0.9375, 0.4375, 0.4375, 0.0625)

    whole = heads.run(head(images), detect, segment, NEIGHBOURS, at_once=8)
    part = heads.run(head(images, context=(2, 1)), detect, segment, NEIGHBOURS, at_once=8)

    for name, values in part.items():
        np.testing.assert_array_equal(values, whole[name][2:4])


def test_who_asks_for_no_mask_never_wakes_the_segmenter_and_always_never_the_detector(detect, segment):
    heads.run(head(slices(0.75, 0.75), outputs=[PROBABILITY]), detect, segment, NEIGHBOURS, at_once=8)
    assert (detect.calls, segment.calls) == ([2], [])

    always = POINT.updated({"gate": "always"})
    heads.run(head(slices(0.25, 0.25), settings=always, outputs=[MASK]), detect, segment, NEIGHBOURS, at_once=8)
    assert (detect.calls, segment.calls) == ([2], [2])


def test_one_that_nobody_waits_for_any_more_ends_between_two_chunks(detect, segment):
    given_up = []
    watched = Network(lambda images: given_up.append(True) or detect.answer(images))

    outcome = heads.run(
        head(slices(*[0.75] * 9), is_cancelled=lambda: bool(given_up)), watched, segment, NEIGHBOURS, at_once=4
    )

    assert isinstance(outcome, gating.CancelledError)
    assert outcome.begun
    assert (watched.calls, segment.calls) == ([4], [])


def test_a_network_that_fails_fails_the_head(segment):
    def broken(_):
        raise RuntimeError("broken")

    assert str(heads.run(head(slices(0.5)), broken, segment, NEIGHBOURS, at_once=4)) == "broken"


def test_slices_are_counted_without_the_context(detect, segment):
    tally = gating.Tally()

    heads.run(
        head(slices(*[0.25] * 4, *[0.75] * 4), context=(1, 2)), detect, segment, NEIGHBOURS, at_once=4, tally=tally
    )

    assert (tally.rows, tally.opened, tally.shut) == (5, 2, 3)


def test_on_a_device_masks_stay_there(detect, segment):
    images, device = slices(0.25, 0.75, 0.75), Device()
    expected = heads.run(head(images), detect, segment, NEIGHBOURS, at_once=2)

    answer = heads.run(head(DeviceArray(images)), detect, segment, NEIGHBOURS, at_once=2, xp=device)

    assert isinstance(answer[MASK], DeviceArray)
    np.testing.assert_array_equal(answer[MASK]._values, expected[MASK])
    np.testing.assert_array_equal(answer[PROBABILITY], expected[PROBABILITY])
    assert [shape for shape in device.uploads if len(shape) == 4] == []


@pytest.mark.parametrize(
    ("count", "context", "spacing_mm", "reason"),
    [
        (257, (0, 0), None, "257 slices, expected at most 256: send a head of more in parts"),
        (0, (0, 0), None, "0 slices, 0 of them context_before and 0 context_after: there is none to answer"),
        (4, (2, 2), None, "4 slices, 2 of them context_before and 2 context_after: there is none to answer"),
        (4, (0, 0), 0.0, "slice_spacing_mm' is 0, expected above 0 and at most 100"),
        (4, (0, 0), -3.0, "slice_spacing_mm' is -3"),
        (4, (0, 0), float("nan"), "slice_spacing_mm' is nan"),
        (4, (0, 0), float("inf"), "slice_spacing_mm' is inf"),
        (4, (0, 0), 5000.0, "slice_spacing_mm' is 5000"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(count, context, spacing_mm, reason):
    images = np.broadcast_to(np.zeros(gating.SLICE, np.uint8), (count, *gating.SLICE))

    with pytest.raises(gating.InvalidValueError, match=reason):
        head(images, context=context, spacing_mm=spacing_mm)


@pytest.mark.parametrize("value", [-1, 1.5, "two", True, float("nan"), 1e300, None, [1]])
def test_a_context_that_is_no_number_of_slices_is_refused(value):
    with pytest.raises(gating.InvalidValueError, match=r"context_after is .*, expected a whole number from 0 to 256"):
        heads.split_context({"context_after": value, "gate": "auto"})


def test_the_context_is_parted_from_what_is_the_gates():
    assert heads.split_context({"context_before": 2, "gate": "auto"}) == ({"gate": "auto"}, (2, 0))


def test_the_gate_has_the_numbers_of_the_contract():
    assert heads.MOST_SLICES == contract.MOST_SLICES
    assert (heads.CONTEXT_BEFORE, heads.CONTEXT_AFTER) == (contract.CONTEXT_BEFORE, contract.CONTEXT_AFTER)
