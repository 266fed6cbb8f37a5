"""Two versions' networks, timed in turns."""

import re
from pathlib import Path

import pytest

from benchmarks.versions import main


def test_a_version_takes_as_long_as_itself(shipped_repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(shipped_repository), str(shipped_repository), "--rounds", "3"])

    told = capsys.readouterr().out
    rows = re.findall(r"^\| version \d+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", told, re.MULTILINE)
    assert len(rows) == 2
    for detector, segmenter, gated in (map(float, row) for row in rows):
        assert 0 < detector < gated < detector + segmenter
    # That it is a number, not which: another test may have the processor.
    assert re.search(r"ratio of a gated slice, in the median of 3 rounds: \d+\.\d\d \(", told)
