"""`gliogate serve`: one line when it is ready, exit code 0 on a signal, 1 with one line when something is wrong."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from gliogate.embedded import find_model_repository
from gliogate.errors import EmbeddedServerError

READY = re.compile(r"gliogate is ready: gRPC 127\.0\.0\.1:\d+, HTTP (http://127\.0\.0\.1:\d+), metrics http://\S+\n")
ENDED_WITHIN_S = 15.0
SERVE = [
    sys.executable,
    "-c",
    "import sys; from pathlib import Path; from gliogate.embedded import serve\n"
    "print('starting', file=sys.stderr, flush=True)\n"
    "sys.exit(serve(model_repository=Path(sys.argv[1]), http_port=int(sys.argv[2]) if sys.argv[2:] else None))",
]


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


def refuses_connections(url):
    try:
        urllib.request.urlopen(f"{url}/v2/health/live", timeout=1).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_one_line_and_ends_cleanly_on_a_signal(tiny_repository, number):
    with start(tiny_repository) as serving:
        url = READY.fullmatch(serving.stdout.readline())[1]
        with urllib.request.urlopen(f"{url}/v2/models/brain_tumor/ready") as response:
            assert response.status == 200
        serving.send_signal(number)
        output, errors = serving.communicate(timeout=ENDED_WITHIN_S)

    assert (serving.returncode, output, errors) == (0, "", "starting\n")
    assert refuses_connections(url)


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_ends_it_cleanly(tiny_repository):
    with start(tiny_repository, start_new_session=True) as serving:
        assert READY.fullmatch(serving.stdout.readline())
        os.killpg(serving.pid, signal.SIGINT)
        os.killpg(serving.pid, signal.SIGINT)
        _, errors = serving.communicate(timeout=ENDED_WITHIN_S)

    assert (serving.returncode, errors) == (0, "starting\n")


@pytest.mark.parametrize("delay_s", [0.05, 0.2, 0.5])
def test_a_signal_during_the_start_ends_it_cleanly(tiny_repository, delay_s):
    with start(tiny_repository) as serving:
        assert serving.stderr.readline() == "starting\n"
        time.sleep(delay_s)
        serving.terminate()
        _, errors = serving.communicate(timeout=ENDED_WITHIN_S)

    assert (serving.returncode, errors) == (0, "")


def test_what_goes_wrong_is_one_line_and_exit_code_1(tiny_repository):
    with socket.create_server(("127.0.0.1", 0)) as other, start(tiny_repository, other.getsockname()[1]) as serving:
        output, errors = serving.communicate(timeout=ENDED_WITHIN_S)

    assert (serving.returncode, output) == (1, "")
    assert re.fullmatch(r"starting\ngliogate: cannot listen on 127\.0\.0\.1, port \d+: .*in use\n", errors)


def test_a_server_that_dies_later_is_one_line_and_exit_code_1(tiny_repository):
    with start(tiny_repository) as serving:
        assert READY.fullmatch(serving.stdout.readline())
        guard = subprocess.run(["pgrep", "-P", str(serving.pid)], capture_output=True, text=True, check=True)
        triton = subprocess.run(["pgrep", "-P", guard.stdout.strip()], capture_output=True, text=True, check=True)
        os.kill(int(triton.stdout), signal.SIGKILL)
        _, errors = serving.communicate(timeout=ENDED_WITHIN_S)

    assert serving.returncode == 1
    assert re.fullmatch(r"starting\ngliogate: the embedded Triton died, exit code 137: .+\n", errors)


def test_it_does_not_outlive_its_parent(tiny_repository):
    script = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    with start(tiny_repository, command=[sys.executable, "-c", script, *SERVE]) as parent:
        url = READY.fullmatch(parent.stdout.readline())[1]
        parent.kill()
        # The pipes are closed by the last process that holds them.
        parent.communicate(timeout=ENDED_WITHIN_S)

    assert refuses_connections(url)


def test_the_model_repository_of_the_current_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = find_model_repository()
    (tmp_path / "model_repository").mkdir()

    assert (shipped / "brain_tumor").is_dir()
    assert find_model_repository() == tmp_path / "model_repository"
    assert find_model_repository(shipped) == shipped


def test_a_model_repository_that_is_none_is_named(tmp_path):
    with pytest.raises(EmbeddedServerError, match=r"no model repository: .*/nowhere is not a folder"):
        find_model_repository(tmp_path / "nowhere")
