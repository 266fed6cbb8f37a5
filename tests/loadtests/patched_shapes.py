"""Shapes of Locust's load; `test_conductor.py` runs it, in a process that is gevent's."""

from types import SimpleNamespace

import pytest

from loadtests.shapes import RUN_TIME_S, SHAPES, offer


def users_of(name, *, most, run_time=100, every=1.0):
    """How many users there are at each moment."""
    shape = SHAPES[name]()
    options = SimpleNamespace(run_time=run_time, num_users=most, spawn_rate=7)
    shape.runner = SimpleNamespace(environment=SimpleNamespace(parsed_options=options))
    told, seconds = [], 0.0
    while True:
        shape.get_run_time = lambda seconds=seconds: seconds
        tick = shape.tick()
        if tick is None:
            assert seconds == pytest.approx(run_time or RUN_TIME_S, abs=every)
            return told
        assert tick[1] == 7
        told.append(tick[0])
        seconds += every


def test_a_ramp_doubles():
    told = users_of("Ramp", most=8)
    assert sorted(set(told)) == [1, 2, 4, 8]
    assert told == sorted(told)
    assert {told.count(users) for users in (1, 2, 4, 8)} == {25}
    assert users_of("Ramp", most=6)[-1] == 6
    assert set(users_of("Ramp", most=1)) == {1}


def test_steps_are_quarters():
    assert sorted(set(users_of("Step", most=8, run_time=None))) == [2, 4, 6, 8]


def test_a_spike_is_five_times_as_many_for_a_fifth_of_the_time():
    told = users_of("Spike", most=10)
    assert (told.count(10), told.count(2)) == (20, 80)
    assert told[39:41] == [2, 10]


def test_a_day_comes_back_to_where_it_began():
    told = users_of("Day", most=100)
    assert (told[0], max(told), told[50]) == (10, 100, 100)
    assert told[-1] == pytest.approx(10, abs=1)


def test_locust_is_offered_all_and_takes_the_one_that_was_asked_for():
    environment = SimpleNamespace(runner=object(), parsed_options=SimpleNamespace(shape="Spike"))
    offer(environment)
    assert list(environment.available_shape_classes) == list(SHAPES)
    assert type(environment.shape_class) is SHAPES["Spike"]
    environment.parsed_options.shape = None
    offer(environment)
    assert environment.shape_class is None
