"""Rounds, around systems that answer at once, fail or are interrupted."""

import io
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from benchmarks.measured import Measured
from benchmarks.measuring import FIRST, Plan, measure
from benchmarks.processes import FailedError
from benchmarks.systems import BATCHES, System
from benchmarks.workload import Workload

MAIN, OTHER = Workload.draw(8, 0.5), Workload.draw(8, 0.0)
PLAN = Plan(rounds=3, workloads=[MAIN, OTHER], in_flight=[1, 4], others_in_flight=[4], turnovers=10)


def system(name="served", kind="gliogate", in_flight=(1, 4, 16), **options):
    return System(name, kind, "ours", start=None, in_flight=in_flight, **options)


def answering(name, round_, raises):
    """A system that raises in its turn of this round, when it was asked before."""
    turns = []

    @contextmanager
    def start():
        turns.append([])

        def ask(images, in_flight):
            turns[-1].append(in_flight)
            # After the first requests and one row.
            if len(turns) == round_ and len(turns[-1]) > FIRST + 2:
                raise raises
            masks = np.zeros((len(images), 2, 2), np.uint8)
            return Measured.of(1.0, np.ones(len(images)), masks, [False] * len(images))

        yield SimpleNamespace(ask=ask, process=SimpleNamespace(ready_s=1.0, take_peak=lambda: 1))

    return System(name, "gliogate", "ours", start, (1, 4))


def console():
    return Console(file=io.StringIO())


def test_the_limit_is_looked_for_in_all_batches_at_every_prevalence():
    limit = system("in one process", "limit", BATCHES)

    assert [PLAN.counts(limit, workload) for workload in (MAIN, OTHER)] == [[1, 4, 16], [1, 4, 16]]
    assert [PLAN.counts(system(), workload) for workload in (MAIN, OTHER)] == [[1, 4], [4]]


@pytest.mark.parametrize(("in_flight", "times"), [(1, 2), (4, 5), (64, 80)])
def test_a_server_is_asked_ten_times_what_is_under_way_in_whole_workloads(in_flight, times):
    assert PLAN.places(system(), MAIN, in_flight) == [*range(8)] * times


def test_batches_and_slow_systems_take_no_longer_than_they_must():
    assert PLAN.places(system("in one process", "limit", BATCHES), MAIN, 16) == [*range(8)]
    assert PLAN.places(system(short=True), MAIN, 1) == [0, 1] * 5


def test_of_a_system_that_fails_late_nothing_is_left_but_its_error():
    systems = [answering("steady", 0, None), answering("late", 2, FailedError("ended with exit code 1"))]

    results = measure(systems, PLAN, console())

    assert {key.system for key in results.records} == {"steady"}
    assert list(results.starts) == [("steady", "ours")]
    assert results.errors == {("late", "ours"): "ended with exit code 1"}
    assert all(len(record.rates) == 3 for record in results.records.values())


def test_what_there_is_is_told_after_every_round():
    told = []

    measure([answering("steady", 0, None)], PLAN, console(), lambda results: told.append(results.rounds))

    assert told == [1, 2, 3]


def test_an_interruption_keeps_what_there_is():
    results = measure([answering("steady", 2, KeyboardInterrupt())], PLAN, console())

    assert results.rounds == 1
    assert sorted(len(record.rates) for record in results.records.values()) == [1, 1, 2]
    assert results.errors == {}


def test_masks_are_not_kept():
    results = measure([answering("steady", 0, None)], PLAN, console())

    assert all(each.masks is None for record in results.records.values() for each in record.measured)
