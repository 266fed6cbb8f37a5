"""Schedules: as many arrivals as the profile says, spaced as the process says, each one worker's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from loadtests.arrivals import Arrivals, Flat, Steps, Wave, share
from loadtests.errors import SettingsError

PROFILES = [Flat(50.0), Steps(((10.0, 20.0), (5.0, 100.0), (10.0, 20.0))), Wave(5.0, 95.0, 25.0)]


def test_constant_arrivals_are_evenly_spaced():
    np.testing.assert_allclose(Arrivals(Flat(4.0), "constant").times(2.0), np.arange(8) / 4 + 0.125)


def test_poisson_gaps_are_exponential_and_independent():
    gaps = np.diff(Arrivals(Flat(100.0), "poisson", seed=3).times(200.0))
    assert kstest(gaps, "expon", args=(0, 0.01)).pvalue > 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.02


@pytest.mark.parametrize("profile", PROFILES)
def test_poisson_counts_are_poisson_whatever_the_profile(profile):
    counts = np.array([len(Arrivals(profile, "poisson", seed).times(25.0)) for seed in range(200)])
    expected = float(profile.expected(np.array([25.0]))[0])
    assert counts.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / 200))
    assert counts.var() == pytest.approx(expected, rel=0.35)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("process", ["poisson", "constant"])
def test_rate_over_time_is_the_profiles(profile, process):
    seeds = range(100) if process == "poisson" else [0]
    times = np.concatenate([Arrivals(profile, process, seed).times(25.0) for seed in seeds])
    edges = np.arange(0.0, 25.1, 2.5)
    counted, _ = np.histogram(times, edges)
    expected = len(seeds) * np.diff(profile.expected(edges))
    np.testing.assert_allclose(counted, expected, rtol=0.1, atol=1)


def test_the_same_seed_gives_the_same_times_and_another_one_others():
    first, again, other = (Arrivals(Flat(20.0), "poisson", seed).times(10.0) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other) or (first != other).any()


def test_steps_keep_their_last_rate():
    assert Steps(((1.0, 10.0), (1.0, 20.0))).expected(np.array([0.0, 0.5, 1.0, 2.0, 4.0])).tolist() == [
        0,
        5,
        10,
        30,
        70,
    ]


def test_wave_begins_lowest_and_is_highest_after_half_a_period():
    counted, _ = np.histogram(Arrivals(Wave(10.0, 90.0, 20.0), "constant").times(20.0), np.arange(0, 20.5))
    assert counted[0] == counted[-1] == pytest.approx(10, abs=1)
    assert counted[9] == counted[10] == pytest.approx(90, abs=2)
    assert counted.sum() == pytest.approx(1000, abs=1)


@given(workers=st.integers(1, 7), rate=st.floats(0.5, 200), seed=st.integers(0, 99))
def test_workers_share_one_schedule_without_gap_or_overlap(workers, rate, seed):
    times = Arrivals(Flat(rate), "poisson", seed).times(5.0)
    shares = [share(times, index, workers) for index in range(workers)]
    assert sorted(np.concatenate(shares).tolist()) == times.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("profile", PROFILES)
def test_schedules_survive_a_message(profile):
    arrivals = Arrivals(profile, "constant", 7)
    assert Arrivals.from_json(arrivals.to_json()) == arrivals


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(SettingsError, match=r"rate is .*, expected above 0"):
        Flat(rate)
