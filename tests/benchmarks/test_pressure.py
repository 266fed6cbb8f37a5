"""`python -m benchmarks.pressure`, in seconds instead of minutes, around a real Triton and tiny networks."""

import json

from benchmarks.pressure import main


def test_a_short_run_tells_what_was_answered_and_what_was_refused(tiny_repository, tmp_path):
    where = ["--model-repository", str(tiny_repository), "--output", str(tmp_path)]
    main(["--minutes", "0.05", "--peak-seconds", "2", "--deadline", "1", *where])

    report = json.loads((tmp_path / "pressure.json").read_text())
    assert report["peak_images_per_s"] > 0
    assert report["unanswered"] == 0
    assert set(report["outcomes"]) <= {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert report["outcomes"]["OK"] > 0
    assert report["peak_mb_by_minute"]
