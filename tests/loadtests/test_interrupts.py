"""Ctrl-C while the command line is still being imported."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import signal, sys
sys.modules["loadtests.patched"] = None  # What is imported next fails, and nothing but imports has been done.
try:
    import loadtests.__main__
except ImportError:
    pass
assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL, "it would end in a trace of the imports"
from loadtests import interrupts
interrupts.raise_on_interrupt()
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def test_it_ends_the_process_without_a_trace():
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=Path(__file__).parents[2], check=True)
