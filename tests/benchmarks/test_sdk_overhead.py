"""`python -m benchmarks.sdk_overhead`, on a few calls, around a real Triton and tiny networks."""

import json

import pytest

from benchmarks.sdk_overhead import main


@pytest.mark.slow
def test_a_short_run_holds_every_way_of_asking_against_the_bare_client(tiny_repository, tmp_path):
    where = ["--model-repository", str(tiny_repository), "--output", str(tmp_path)]
    main(["--rounds", "2", "--calls", "2", "--slices", "17", *where])

    report = json.loads((tmp_path / "sdk_overhead.json").read_text())
    rows = report["calls"] | report["many"]
    assert {"bare", "analyze", "detect", "bare, 16 threads", "analyze_many"} <= set(rows)
    assert all(row["cpu_ms"] > 0 and row["wall_ms"] > 0 for row in rows.values())
    assert rows["bare"]["cpu_over_bare_ms"] == 0
    assert rows["bare, 16 threads"]["rate_of_bare"] == 1
    assert report["volume_s"]["analyze_volume"] > report["volume_s"]["reading"] > 0
    assert report["import_s"]["gliogate"]["cpu"] > 0
