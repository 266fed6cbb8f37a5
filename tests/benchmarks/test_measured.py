"""The closed loop, around a server that is a list."""

import numpy as np
import pytest

from benchmarks.measured import SHUT, Measured, closed_loop, pack


@pytest.mark.parametrize(("count", "in_flight"), [(1, 1), (10, 1), (10, 4), (3, 16)])
def test_so_many_are_under_way_until_all_are_answered(count, in_flight):
    under_way, most, answered = [], [], []

    def send(place):
        under_way.append(place)
        most.append(len(under_way))

    def receive():
        # The youngest first: answers come in any order.
        answered.append(under_way.pop())
        return answered[-1]

    seconds, latencies = closed_loop(count, in_flight, send, receive)

    assert sorted(answered) == list(range(count))
    assert max(most) == min(count, in_flight)
    assert (latencies >= 0).all()
    assert (latencies <= seconds).all()


def test_an_empty_mask_is_not_a_gate_that_stayed_shut():
    measured = Measured(1.0, np.ones(3), np.array([0, SHUT, 5]))

    assert measured.opened == 2


def test_a_packed_mask_has_a_bit_for_each_pixel():
    mask = np.zeros((1, 256, 256), np.uint8)
    mask[0, 3, 5] = 1

    packed = pack([mask, mask[0].astype(bool)])

    assert packed.shape == (2, 8192)
    assert np.unpackbits(packed, axis=1).nonzero()[1].tolist() == [3 * 256 + 5] * 2
