"""Importing Locust makes all of a process gevent's, which is nothing for the other tests: a process of its own."""

import subprocess
import sys
from pathlib import Path

CASES = sorted(Path(__file__).parent.glob("patched_*.py"))


def test_stages_and_shapes_are_gone_through_as_their_cases_say():
    # The plugin is imported before anything else, as gevent wants it.
    words = ["-q", "-p", "loadtests.patched", "-p", "no:cacheprovider", *map(str, CASES)]
    done = subprocess.run([sys.executable, "-m", "pytest", *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout
