"""In which parts a head goes to the server."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliogate import parts
from gliogate.base import check_slices, spacing_of
from gliogate.contract import ASSUMED_SPACING_MM, CONTEXT_MM, MOST_SLICES
from gliogate.parts import CONTEXT_SHARE, LEAST, SLICE_MESSAGE_BYTES, Part, parts_of

USUAL_BYTES = 64 * 2**20

SPACINGS = st.none() | st.floats(0.01, 100)


@st.composite
def heads(draw):
    """Slices of a head, and which of them are wanted: all, one stretch, or any."""
    count = draw(st.integers(1, 700))
    everything = range(count)
    first = draw(st.integers(0, count - 1))
    stretch = everything[first : draw(st.integers(first, count - 1)) + 1]
    some = st.sets(st.sampled_from(everything), max_size=60).map(sorted)
    return count, list(draw(st.sampled_from([everything, stretch]) | some))


@given(heads(), SPACINGS, st.integers(1, 100 * 2**20))
def test_every_slice_that_is_wanted_is_in_one_part_and_no_request_is_too_large(head, spacing_mm, message_bytes):
    count, wanted = head

    found = parts_of(wanted, count, spacing_mm=spacing_mm, message_bytes=message_bytes)

    assert [index for part in found for index in range(part.start, part.stop)] == wanted
    sent = [len(range(count)[part.sent]) for part in found]
    for part, slices in zip(found, sent, strict=True):
        assert part.start < part.stop
        assert 0 <= part.start - part.before <= part.stop + part.after <= count
        assert slices == part.before + (part.stop - part.start) + part.after
        assert slices <= MOST_SLICES
    # A message that has no room for one slice cannot be helped.
    assert all(slices * SLICE_MESSAGE_BYTES <= message_bytes or slices == 1 for slices in sent)


@given(heads(), SPACINGS)
def test_the_context_holds_every_neighbour_that_weighs_or_reaches_the_end_of_the_head(head, spacing_mm):
    count, wanted = head
    most = min(MOST_SLICES, USUAL_BYTES // SLICE_MESSAGE_BYTES) // CONTEXT_SHARE

    for part in parts_of(wanted, count, spacing_mm=spacing_mm, message_bytes=USUAL_BYTES):
        for context, there in ((part.before, part.start), (part.after, count - part.stop)):
            next_mm = (context + 1) * (spacing_mm or ASSUMED_SPACING_MM)
            assert context in (there, most) or next_mm >= CONTEXT_MM * (1 - 1e-9)
            # And none that weighs nothing.
            assert context == 0 or context * (spacing_mm or ASSUMED_SPACING_MM) < CONTEXT_MM


@given(st.integers(1, 700), SPACINGS)
def test_parts_of_a_whole_head_are_alike_in_size(count, spacing_mm):
    found = parts_of(range(count), count, spacing_mm=spacing_mm, message_bytes=USUAL_BYTES)

    sizes = [part.stop - part.start for part in found]
    assert max(sizes) - min(sizes) <= 1
    assert len(found) == 1 or min(sizes) >= LEAST // 2


def test_some_heads():
    def told(wanted, count, spacing_mm, message_bytes=USUAL_BYTES):
        return parts_of(wanted, count, spacing_mm=spacing_mm, message_bytes=message_bytes)

    assert told(range(20), 20, 5.0) == [Part(0, 20, 0, 0)]
    assert told(range(30), 30, 5.0) == told(range(30), 30, None) == [Part(0, 15, 0, 2), Part(15, 30, 2, 0)]
    assert told(range(30), 30, 15.0) == [Part(0, 15, 0, 0), Part(15, 30, 0, 0)]
    assert told([3, 4, 5, 9], 20, 5.0) == [Part(3, 6, 2, 2), Part(9, 10, 2, 2)]
    assert told(range(160), 160, 1.0) == [Part(0, 80, 0, 14), Part(80, 160, 14, 0)]
    assert told([], 20, 5.0) == []
    # A message that holds four slices: the neighbours that weigh do not all fit.
    assert told([4, 5], 20, 1.0, 4 * SLICE_MESSAGE_BYTES) == [Part(4, 6, 1, 1)]
    assert told([4, 5], 20, 1.0, 1) == [Part(4, 5, 0, 0), Part(5, 6, 0, 0)]


def test_what_a_slice_takes_in_a_message_is_not_more_than_is_reckoned_with():
    mask, probabilities, others = 256 * 256, 4 * 256 * 256, 4 * (1 + 2 + 1 + 5) + 1
    assert mask + probabilities + others < parts.SLICE_MESSAGE_BYTES
    assert parts.SLICE_MESSAGE_BYTES > 3 * 256 * 256


@pytest.mark.parametrize(
    ("spacing_mm", "sent"),
    [(None, None), ((1, 1, 5.0), 5.0), ((1, 1, 250.0), 100.0), ((1, 1, 0.0), None), ((1, 1, float("nan")), None)],
)
def test_a_spacing_that_makes_no_sense_is_no_reason_to_refuse_a_head(spacing_mm, sent):
    assert spacing_of(SimpleNamespace(spacing_mm=spacing_mm)) == sent


def test_which_slices_are_asked_about():
    assert check_slices(None, 3) == [0, 1, 2]
    assert check_slices((2, 0, 2), 3) == [0, 2]
    assert check_slices([], 3) == []
    for stranger in (3, -1):
        with pytest.raises(ValueError, match=rf"slice {stranger}: the head has the slices 0 to 2"):
            check_slices([0, stranger], 3)
    with pytest.raises(TypeError):
        check_slices([0.5], 3)
