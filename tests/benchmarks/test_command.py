"""`python -m benchmarks`, around a real Triton and networks whose answers are known."""

import json

import pytest

from benchmarks.__main__ import main

FIELDS = ("name", "images_per_s", "p50_ms", "p99_ms", "ratio_to_limit", "peak_mb", "prevalence", "in_flight")


@pytest.mark.slow
def test_a_quick_run_leaves_rows_and_a_page(tiny_repository, tmp_path, capsys):
    where = ["--model-repository", str(tiny_repository), "--output", str(tmp_path)]
    main(["--quick", "--systems", "tritonclient", "fused", "plain", "two calls", *where])

    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["is_complete"]
    assert [row for row in report["rows"] if "error" in row] == []
    assert {row["name"] for row in report["rows"]} == {
        "in one process, ours",
        "in one process, onnxruntime",
        "in one process, one fused ONNX graph",
        "gliogate, tritonclient",
        "Triton, one fused ONNX graph",
        "Triton, two calls",
        "Triton, plain ensemble",
    }
    for row in report["rows"]:
        assert all(row[field] is not None for field in FIELDS)
        assert row["images_per_s"] > 0
        assert row["p50_ms"] <= row["p99_ms"]
        assert row["peak_mb"] > 10
    limits = [row["ratio_to_limit"] for row in report["rows"] if row["kind"] == "limit"]
    assert max(limits) == 1
    assert "gliogate, tritonclient" in (tmp_path / "bench.html").read_text()
    assert "served against the limit" in capsys.readouterr().out


def test_a_system_that_there_is_none_of_is_named(tiny_repository, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--systems", "tritnclient", "--model-repository", str(tiny_repository), "--output", str(tmp_path)])

    assert "no system has 'tritnclient' in its name; there are: in one process, ours" in capsys.readouterr().err
