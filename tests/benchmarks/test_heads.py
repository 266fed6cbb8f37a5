"""The benchmark of heads runs, and says what it measured."""

import json

import pytest

from benchmarks import heads


@pytest.mark.slow
def test_it_tells_both_rates(tmp_path, capsys):
    heads.main(["--rounds", "1", "--heads", "2", "--slices", "3", "--output", str(tmp_path)])

    report = json.loads((tmp_path / "heads.json").read_text())
    assert report["slices"] == 6
    assert report["rates"].keys() == {"brain_volume", "slice by slice"}
    assert report["ratio"] > 0
    assert "time, ratio" in capsys.readouterr().out
