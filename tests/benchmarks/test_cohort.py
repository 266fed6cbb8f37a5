"""`python -m benchmarks.cohort`, on a few heads, around a real Triton and tiny networks."""

import json

import pytest

from benchmarks.cohort import COHORT, MANY, main


@pytest.mark.slow
def test_a_short_run_holds_the_command_against_analyze_many(tiny_repository, tmp_path):
    where = ["--model-repository", str(tiny_repository), "--output", str(tmp_path)]
    main(["--rounds", "2", "--heads", "3", *where, "--", "--workers", "2"])

    report = json.loads((tmp_path / "cohort.json").read_text())
    assert 60 <= report["slices"] <= 180
    assert report["rates"].keys() == {COHORT, MANY}
    many, cohort = (report["rates"][name] for name in (MANY, COHORT))
    assert report["ratios"] == pytest.approx([ours / theirs for ours, theirs in zip(cohort, many, strict=True)])
