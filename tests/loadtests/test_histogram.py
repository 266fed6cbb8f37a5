"""Histograms: percentiles right to a part in a thousand, and merging that loses nothing."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.histogram import Histogram

PERCENTILES = (50, 90, 99, 99.9, 100)
durations = st.lists(st.floats(0, 3600), min_size=1, max_size=200)


def exact(values: list[float], percent: float) -> float:
    """The smallest value that at least this percentage does not exceed, in whole microseconds."""
    rounded = sorted(round(value * 1e6) for value in values)
    return rounded[max(1, math.ceil(round(len(values) * percent / 100, 9))) - 1] / 1e6


@given(durations)
def test_percentiles_are_right_to_a_thousandth(values):
    histogram = Histogram.of(values)
    for percent in PERCENTILES:
        true = exact(values, percent)
        assert true <= histogram.percentile(percent) <= true * 1.001 + 1e-12


@given(st.lists(durations, min_size=1, max_size=5))
def test_merged_is_what_one_process_would_have_counted(parts):
    merged = Histogram.merged(Histogram.of(part) for part in parts)
    together = Histogram.of(value for part in parts for value in part)
    assert merged.to_json() == together.to_json()


@given(durations)
def test_histograms_survive_a_file(values):
    histogram = Histogram.of(values)
    assert Histogram.from_json(json.loads(json.dumps(histogram.to_json()))).to_json() == histogram.to_json()


def test_the_merged_percentile_is_no_average_of_percentiles():
    fast, slow = Histogram.of([0.010] * 990), Histogram.of([1.0] * 10)
    assert Histogram.merged([fast, slow]).percentile(99) == pytest.approx(0.010, rel=1e-3)
    assert (fast.percentile(99) + slow.percentile(99)) / 2 > 0.5


def test_short_durations_are_exact():
    histogram = Histogram.of(np.arange(1, 1001) / 1e6)
    assert [histogram.percentile(percent) for percent in (50, 99, 99.9, 100)] == [500e-6, 990e-6, 999e-6, 1000e-6]
    assert histogram.mean_s == pytest.approx(500.5e-6)
    assert histogram.count == 1000


def test_an_empty_one_has_no_percentiles():
    histogram = Histogram()
    assert (histogram.count, histogram.percentile(50), histogram.mean_s, histogram.longest_s) == (0, None, None, None)


def test_what_never_ends_is_longer_than_anything():
    histogram = Histogram.of([0.1] * 98)
    assert histogram.percentile(98, endless=2) == pytest.approx(0.1, rel=1e-3)
    assert histogram.percentile(99, endless=2) == math.inf
    assert Histogram().percentile(50, endless=1) == math.inf


def test_the_highest_percentile_is_the_longest_duration():
    histogram = Histogram.of([0.001, 1.234567])
    assert histogram.percentile(100) == histogram.longest_s == 1.234567
