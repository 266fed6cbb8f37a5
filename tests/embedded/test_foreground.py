"""`gliogate serve`: one line when it is ready; it ends with 130 at Ctrl-C, 0 at SIGTERM, 1 if something is wrong."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from support.waiting import wait_for

READY = re.compile(r"gliogate is ready: gRPC 127\.0\.0\.1:\d+, HTTP (http://127\.0\.0\.1:\d+), metrics http://\S+\n")
ENDED_WITHIN_S = 15.0
SERVE = [
    sys.executable,
    "-c",
    "import sys; from gliogate.cli import main\n"
    "print('starting', file=sys.stderr, flush=True)\n"
    "sys.exit(main(['serve', *sys.argv[1:]]))",
    *("--grpc-port", "0", "--http-port", "0", "--metrics-port", "0", "--model-repository"),
]
ENDS = [(signal.SIGTERM, 0), (signal.SIGINT, 130)]


@contextlib.contextmanager
def start(*arguments, command=SERVE, **options):
    process = subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def children_of(pid):
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True)
    return list(map(int, found.stdout.split()))


def triton_of(serving):
    """Its process, a child of the guard's."""
    guard = next(pid for pid in children_of(serving.pid) if "guard.py" in Path(f"/proc/{pid}/cmdline").read_text())
    (triton,) = children_of(guard)
    return triton


def refuses_connections(url):
    try:
        urllib.request.urlopen(f"{url}/v2/health/live", timeout=1).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_it_prints_one_line_and_ends_cleanly_on_a_signal(tiny_repository, number, code):
    with start(tiny_repository) as serving:
        url = READY.fullmatch(serving.stdout.readline())[1]
        with urllib.request.urlopen(f"{url}/v2/models/brain_tumor/ready") as response:
            assert response.status == 200
        serving.send_signal(number)
        output, errors = serving.communicate(timeout=ENDED_WITHIN_S)

    assert (serving.returncode, output, errors) == (code, "", "starting\n")
    assert refuses_connections(url)


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_ends_it_cleanly(tiny_repository):
    with start(tiny_repository, start_new_session=True) as serving:
        assert READY.fullmatch(serving.stdout.readline())
        os.killpg(serving.pid, signal.SIGINT)
        os.killpg(serving.pid, signal.SIGINT)
        _, errors = serving.communicate(timeout=ENDED_WITHIN_S)

    assert (serving.returncode, errors) == (130, "starting\n")


@pytest.mark.parametrize(("number", "code"), ENDS)
@pytest.mark.parametrize("delay_s", [0.05, 0.5])
def test_a_signal_during_the_start_ends_it_cleanly(tiny_repository, tmp_path, number, code, delay_s):
    with start(tiny_repository, env=os.environ | {"TMPDIR": str(tmp_path)}) as serving:
        assert serving.stderr.readline() == "starting\n"
        wait_for(lambda: any(tmp_path.iterdir()))  # The folder that Triton is started from.
        time.sleep(delay_s)
        serving.send_signal(number)
        _, errors = serving.communicate(timeout=ENDED_WITHIN_S)

    assert (serving.returncode, errors) == (code, "")
    assert not any(tmp_path.iterdir())


def test_what_goes_wrong_is_one_line_and_exit_code_1(tiny_repository):
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        start(tiny_repository, "--http-port", other.getsockname()[1]) as serving,
    ):
        output, errors = serving.communicate(timeout=ENDED_WITHIN_S)

    assert (serving.returncode, output) == (1, "")
    assert re.fullmatch(r"starting\ngliogate: error: cannot listen on 127\.0\.0\.1, port \d+: .*in use\n", errors)


def test_a_server_that_dies_later_is_one_line_and_exit_code_1(tiny_repository):
    with start(tiny_repository, "--no-restart") as serving:
        assert READY.fullmatch(serving.stdout.readline())
        os.kill(triton_of(serving), signal.SIGKILL)
        _, errors = serving.communicate(timeout=ENDED_WITHIN_S)

    assert serving.returncode == 1
    assert re.fullmatch(r"starting\ngliogate: error: the embedded Triton was killed by SIGKILL: .+\n", errors)


def test_it_outlives_the_shell_that_started_it(tiny_repository):
    script = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    with start(tiny_repository, command=[sys.executable, "-c", script, *SERVE]) as parent:
        url = READY.fullmatch(parent.stdout.readline())[1]
        (serving,) = children_of(parent.pid)
        parent.kill()
        parent.wait()
        try:
            time.sleep(1)  # It would look at its parent every 0.2 s.
            assert not refuses_connections(url)
        finally:
            os.kill(serving, signal.SIGTERM)
        # The pipes are closed by the last process that holds them.
        parent.communicate(timeout=ENDED_WITHIN_S)

    assert refuses_connections(url)
