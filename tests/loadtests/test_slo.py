"""Objectives: what is read, what is refused, and when they are met."""

import pytest
from support.load_results import result_of

from loadtests.errors import SettingsError
from loadtests.slo import Slo


@pytest.mark.parametrize(
    ("text", "latencies_s", "errors", "missed"),
    [
        ("p99<250ms", [0.1] * 99 + [0.3], 0, []),
        ("p99<250ms", [0.1] * 98 + [0.3] * 2, 0, ["p99<250ms: 300.0 ms"]),
        ("p50<=100us", [0.0001], 0, []),
        ("p50<100us", [0.0001], 0, ["p50<100us: 0.1 ms"]),
        ("max<1s,mean<500ms", [0.2, 0.9], 0, ["mean<500ms: 550.0 ms"]),
        ("errors<0.1%", [0.1] * 999, 1, ["errors<0.1%: 0.1%"]),
        ("errors<=0.1%", [0.1] * 999, 1, []),
        (" p95 < 1 s , errors < 5 % ", [0.1] * 95, 5, ["errors < 5 %: 5%"]),
        ("throughput>=10/s", [0.1] * 100, 0, []),
        ("throughput>10.1/s", [0.1] * 100, 0, ["throughput>10.1/s: 10.0/s"]),
        ("p99<1s", [], 3, ["p99<1s: nothing was answered"]),
        ("p90<1s", [0.1] * 95, 5, []),
        ("p99<1s", [0.1] * 95, 5, ["p99<1s: 5% failed, which counts as slower than that"]),
        ("max<1s", [0.1] * 95, 5, ["max<1s: 5% failed, which counts as slower than that"]),
        ("mean<1s", [0.1] * 95, 5, ["mean<1s: 5% failed, which counts as slower than that"]),
    ],
)
def test_objectives_are_met_or_told_with_what_was_found(text, latencies_s, errors, missed):
    result = result_of(latencies_s, errors=errors, duration_s=10.0)
    assert Slo.parse(text).broken(result) == missed


UNREADABLE = ["", "p99", "p99<", "p99<250", "p99=250ms", "p101<1s", "p0<1s", "errors<0.1", "errors<1ms", "p99<1%"]
UNREADABLE += ["mean50<1s", "latency<1s", "p99<250ms,", "p99<-1ms", "throughput>1", "p99<250ms;errors<1%"]


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_cannot_be_read_is_named_with_what_is_expected(text):
    with pytest.raises(SettingsError, match=r"--slo: cannot read '.*'; expected objectives .* as in p99<250ms"):
        Slo.parse(text)


def test_the_sharpest_percentile_decides_how_long_steps_are():
    assert Slo.parse("p50<1s,p99.9<2s,errors<1%").sharpest_percent == 99.9
    assert Slo.parse("p99<1s,errors<0.1%").sharpest_percent == pytest.approx(99.9)
    assert Slo.parse("throughput>1/s").sharpest_percent == 50


def test_it_is_told_as_it_was_written():
    assert str(Slo.parse("p99<250ms, errors<0.1%")) == "p99<250ms,errors<0.1%"
