"""Rows, savings and goals from measurements with known answers."""

import numpy as np
import pytest

from benchmarks.goals import goals
from benchmarks.measured import SHUT, Measured
from benchmarks.measuring import Key, Record, Results
from benchmarks.pair import DOCUMENTED, OURS
from benchmarks.rows import rows_of, savings_of, starts_of
from benchmarks.systems import System

SLICES = 100


def record(*rates, opened=50, detector_ms=4.0, segmenter_ms=8.0):
    """Rounds at these slices/s; every latency is the same."""
    areas = np.where(np.arange(SLICES) < opened, 7, SHUT)
    stages = {"detector": detector_ms * SLICES / 1e3, "segmenter": segmenter_ms * opened / 1e3}
    measured = [Measured(SLICES / rate, np.full(SLICES, 0.25), areas, stages) for rate in rates]
    return Record(measured, [2_000_000] * len(rates))


def results(**records):
    return Results(records={KEYS[name]: record for name, record in records.items()})


KEYS = {
    "limit": Key("in one process", OURS, "limit", 16, 0.35),
    "slow_limit": Key("in one process", DOCUMENTED, "limit", 16, 0.35),
    "served": Key("gliogate, tritonclient", OURS, "gliogate", 16, 0.35),
    "sdk": Key("gliogate, SDK", OURS, "gliogate", 16, 0.35),
    "always": Key("gliogate, gate=always", OURS, "always", 16, 0.35),
    "peer": Key("FastAPI", DOCUMENTED, "peer", 16, 0.35),
}


def test_a_ratio_is_of_the_same_round_of_the_fastest_limit():
    # The last round was disturbed: everything took twice as long.
    rows = rows_of(
        results(limit=record(100, 100, 50), slow_limit=record(60, 60, 30), served=record(90, 80, 45)), systems=[]
    )

    row = next(row for row in rows if row["name"] == "gliogate, tritonclient")
    assert row["ratio_to_limit"] == pytest.approx(0.9)
    assert row["ratio_to_limit_range"] == pytest.approx([0.8, 0.9])
    assert (row["images_per_s"], row["images_per_s_range"]) == (pytest.approx(80), pytest.approx([45, 90]))
    assert (row["p50_ms"], row["p99_ms"], row["peak_mb"]) == (250, 250, 2)
    assert (row["opened"], row["slices"], row["rounds"]) == (50, 100, 3)


def test_a_system_that_failed_has_a_row_with_its_error():
    failed = System("FastAPI", "peer", DOCUMENTED, start=None)
    measured = results(limit=record(100))
    measured.errors["FastAPI", DOCUMENTED] = "No matching distribution"

    rows = rows_of(measured, [failed])

    expected = {"name": "FastAPI", "engine": DOCUMENTED, "kind": "peer", "error": "No matching distribution"}
    assert rows[-1] == expected


def test_what_gating_saves_is_held_against_the_engines_own_seconds():
    # Detector 4 ms, segmenter 8 ms, the gate opens for half: 8 of 12 ms a slice, a third saved.
    [saving] = savings_of(results(limit=record(125), served=record(100), always=record(70)), in_flight=16)

    assert saving["opened_share"] == 0.5
    assert saving["saved_in_theory"] == pytest.approx(1 / 3)
    assert saving["saved"] == pytest.approx(0.3)


def test_where_the_gate_never_opens_another_prevalence_tells_what_the_segmenter_takes():
    measured = results(limit=record(125))
    measured.records[Key("in one process", OURS, "limit", 16, 1.0)] = record(80, opened=100)
    measured.records[Key("in one process", OURS, "limit", 16, 0.0)] = record(250, opened=0)
    measured.records[Key("gliogate, tritonclient", OURS, "gliogate", 16, 0.0)] = record(240, opened=0)
    measured.records[Key("gliogate, gate=always", OURS, "always", 16, 0.0)] = record(80)

    [saving] = savings_of(measured, in_flight=16)

    assert saving["saved_in_theory"] == pytest.approx(8 / 12)
    assert saving["saved"] == pytest.approx(1 - 80 / 240)


def test_a_goal_stands_beside_its_figure():
    measured = results(limit=record(100), served=record(96), always=record(70), peer=record(30))
    measured.starts["gliogate, tritonclient", OURS].ready_s.append(2.5)
    measured.starts["gliogate, tritonclient", OURS].first_s.append([0.3, *[0.1] * 9])
    report = {
        "rows": rows_of(measured, []),
        "savings": savings_of(measured, 16),
        "starts": starts_of(measured),
    }

    by_text = {goal.text: goal for goal in goals(report)}

    assert by_text["served against the limit, tritonclient, 16 in flight"].is_met
    assert by_text["times the best server on ONNX Runtime"].figure == pytest.approx(3.2)
    assert by_text["seconds until ready"].is_met
    assert not by_text["first request against the tenth"].is_met
    # Nobody was measured with the SDK, nor with the same engine.
    assert not any("SDK" in text or "same engine" in text for text in by_text)


def goals_of(measured):
    report = {"rows": rows_of(measured, []), "savings": [], "starts": []}
    return {goal.text: goal for goal in goals(report)}


def test_without_a_limit_there_are_rates_and_no_ratios():
    measured = results(served=record(96))

    [row] = rows_of(measured, [])

    assert row["images_per_s"] == pytest.approx(96)
    assert row["ratio_to_limit"] is None
    assert row["ratio_to_limit_range"] is None
    assert not any("limit" in text for text in goals_of(measured))


def test_the_sdk_is_held_against_the_limit_too():
    by_text = goals_of(results(limit=record(100), served=record(96), sdk=record(80)))

    assert by_text["served against the limit, tritonclient, 16 in flight"].is_met
    assert not by_text["served against the limit, SDK, 16 in flight"].is_met


def test_the_servers_memory_is_its_most_with_the_gate_held_open_too():
    measured = results(limit=record(100), served=record(96), always=record(70))
    measured.records[KEYS["always"]].peak_bytes[0] = 1_800_000_000

    assert goals_of(measured)["peak memory of the server, GB"].figure == pytest.approx(1.8)
