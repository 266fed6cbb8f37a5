"""Importing Locust makes all of a process gevent's, which is nothing for the other tests: a process of its own."""

import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("patched_conductor.py")


def test_a_stage_is_gone_through_as_its_cases_say():
    # The plugin is imported before anything else, as gevent wants it.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "loadtests.patched", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
