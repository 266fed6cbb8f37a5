"""`python -m benchmarks.pressure`, in seconds instead of minutes, around a real Triton and tiny networks."""

import json

import pytest

from benchmarks.pressure import answered, goals, main


@pytest.mark.slow
def test_a_short_run_tells_what_was_answered_and_what_was_refused(tiny_repository, tmp_path, capsys):
    where = ["--model-repository", str(tiny_repository), "--output", str(tmp_path)]
    main(["--minutes", "0.05", "--peak-seconds", "2", "--deadline", "1", *where])

    report = json.loads((tmp_path / "pressure.json").read_text())
    assert report["peak_images_per_s"] > 0
    assert report["unanswered"] == 0
    assert set(report["outcomes"]) <= {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert report["outcomes"]["OK"] > 0
    assert report["peak_mb_by_minute"]
    assert "of the peak throughput, under pressure" in capsys.readouterr().out


def test_a_refusal_is_no_throughput():
    assert answered([("OK", 1.0, 0.1), ("UNAVAILABLE", 1.1, 0.0), ("OK", 1.2, 0.1)]) == 2


@pytest.mark.parametrize(
    ("share", "memory", "met"),
    [
        (0.92, [900, 910, 905, 903, 1200, 908, 904, 907, 906], [True, True]),
        (0.85, [900, 920, 940, 960, 980, 1000, 1020, 1040, 1060], [False, False]),
        (0.92, [900, 901], [True]),
    ],
)
def test_throughput_and_memory_are_held_against_their_bars(share, memory, met):
    report = {"share_of_peak": share, "peak_mb_by_minute": memory}

    assert [goal.is_met for goal in goals(report)] == met
