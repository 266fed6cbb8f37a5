"""The proxy's benchmark runs, and says what it measured."""

import json

import pytest

from benchmarks import proxy_overhead


@pytest.mark.slow
def test_it_tells_both_rates(tmp_path, capsys):
    proxy_overhead.main(["--rounds", "2", "--slices", "4", "--output", str(tmp_path)])

    report = json.loads((tmp_path / "proxy_overhead.json").read_text())
    assert set(report) == {"1", "16"}
    assert all(row["ratio"] > 0 for row in report.values())
    assert "through the proxy" in capsys.readouterr().out
