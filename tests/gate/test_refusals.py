"""Lines about refused requests, `gate/refusals.py`."""

import pytest

from gate.refusals import Refusals


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_line_names_the_request_and_what_was_wrong_and_many_make_one_a_second(clock):
    lines = []
    refusals = Refusals(lines.append, clock)
    for clock.now, request_id in ((0.0, "first"), (0.5, "second"), (0.9, "third"), (1.0, "fourth"), (5.0, "fifth")):
        refusals.tell(request_id, ValueError("gate is 'open'"))

    assert lines == [
        "request 'first': gate is 'open'",
        "request 'fourth': gate is 'open' (2 more since the last such line)",
        "request 'fifth': gate is 'open'",
    ]


def test_whatever_an_id_or_an_error_holds_it_is_one_short_line(clock):
    lines = []
    Refusals(lines.append, clock).tell("x\ny" * 100_000, ValueError("one\ntwo\r\n three"))

    [line] = lines
    assert line.endswith(": one two three")
    assert len(line) < 200
    assert "\n" not in line
