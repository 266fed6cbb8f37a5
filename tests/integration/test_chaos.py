"""The campaign of faults runs, and says what became of the load: a short one, for the long one takes half an hour."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.alone
def test_a_short_campaign_loses_nothing(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "chaos", "--minutes", "1.5", "--rate", "10"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(CHECKOUT / "tests"), str(CHECKOUT / "client")])},
        capture_output=True,
        text=True,
        timeout=400,
    )

    table = (tmp_path / "build" / "chaos" / "table.md").read_text()
    assert run.returncode == 0, table
    assert "| lost without an answer or an error | 0 |" in table
    assert "| Triton killed | 1 |" in table
