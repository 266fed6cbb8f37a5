"""Processes that are started, weighed and ended."""

import sys
import time

import psutil
import pytest

from benchmarks.processes import FailedError, Process

ECHO = "import sys\nprint('ready', flush=True)\nfor line in sys.stdin: print(line, end='', flush=True)"
DEAF = "import sys\nprint('ready', flush=True)\nsys.stdin.readline()\nsys.exit('out of slices')"
MUTE = """
import sys, time
print("still thinking", file=sys.stderr)
print("ready", flush=True)
time.sleep(60)
"""
HOLDS_AND_LETS_GO = """
import time
held = bytearray(200_000_000)
time.sleep(1)
del held
print('let go', flush=True)
time.sleep(60)
"""
PARENT = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"


def children():
    """The processes that this one has started and not ended."""
    return set(psutil.Process().children())


def python(code, folder, **options):
    return Process([sys.executable, "-c", code], log=folder / "log", **options)


def test_it_ends_with_all_that_it_started(tmp_path):
    before = children()
    with python(PARENT.format(child="import time; time.sleep(60)"), tmp_path):
        [parent] = children() - before
        deadline = time.monotonic() + 10
        while not (family := parent.children(recursive=True)):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    assert not any(each.is_running() for each in (parent, *family))


def test_its_peak_is_of_all_its_processes_and_forgotten_once_told(tmp_path):
    with python(PARENT.format(child=HOLDS_AND_LETS_GO), tmp_path) as process:
        deadline = time.monotonic() + 20
        while "let go" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        peak = process.take_peak()

        assert peak > 200e6
        while process.take_peak() > peak - 150e6:
            assert time.monotonic() < deadline
            time.sleep(0.3)


def test_a_worker_answers_line_by_line(tmp_path):
    with python(ECHO, tmp_path, pipes=True) as process:
        assert process.answer({"batch": 4}) == {"batch": 4}
        assert process.answer({"batch": 16}) == {"batch": 16}


def test_one_that_dies_says_its_last_words(tmp_path):
    code = "import sys; sys.stderr.write('first\\nno such network\\n'); sys.exit(3)"
    with (
        pytest.raises(FailedError, match="ended with exit code 3: no such network"),
        python(code, tmp_path, is_ready=lambda: False),
    ):
        pass


def test_a_worker_that_dies_instead_of_answering_is_no_hang(tmp_path):
    with (
        python(DEAF, tmp_path, pipes=True) as process,
        pytest.raises(FailedError, match="ended with exit code 1: out of slices"),
    ):
        process.answer({"batch": 4})


def test_a_worker_that_never_answers_is_given_up(tmp_path):
    with (
        python(MUTE, tmp_path, pipes=True, answer_timeout_s=0.3) as process,
        pytest.raises(FailedError, match=r"no answer after 0.3 s: still thinking"),
    ):
        process.answer({"batch": 4})


def test_a_worker_that_never_begins_is_given_up_and_ended(tmp_path):
    before = children()
    process = python("import time; time.sleep(60)", tmp_path, pipes=True, start_timeout_s=0.3)

    with pytest.raises(FailedError, match=r"not ready after 0.3 s: it said nothing"), process:
        pass

    assert children() <= before


def test_one_that_is_never_ready_is_given_up_and_ended(tmp_path):
    before = children()
    process = python("import time; time.sleep(60)", tmp_path, is_ready=lambda: False, start_timeout_s=0.3)

    with pytest.raises(FailedError, match=r"not ready after 0.3 s"), process:
        pass

    assert children() <= before
