"""The room stands by itself: Jinja and NumPy beside gliogate, and none of the rooms that draw with it."""

import subprocess
import sys
from pathlib import Path

from support import only_installed

CHECKOUT = Path(__file__).parents[2]


def test_it_needs_jinja_and_no_room_above_it():
    modules = [f"reports.{path.stem}" for path in sorted((CHECKOUT / "reports").glob("[!_]*.py"))]
    assert "reports.frame" in modules
    allowed = ". jinja2 !training !loadtests !benchmarks !deploy"
    command = [sys.executable, only_installed.__file__, allowed, "-c", f"import {', '.join(modules)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
