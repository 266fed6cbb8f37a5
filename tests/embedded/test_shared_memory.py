"""Small shared memory: too little is refused with what to do, little is survived."""

import os
import shutil
import subprocess
import sys

import pytest

BURST = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException
from gliogate.embedded import EmbeddedServer

def ask(rows, model="brain_tumor"):
    tensor = InferInput("image", [rows, 256, 256, 3], "UINT8")
    tensor.set_data_from_numpy(np.full((rows, 256, 256, 3), 191, np.uint8))
    try:
        triton.infer(model, [tensor], parameters={"gate": "always"})
    except InferenceServerException as error:
        return error.status()
    return "OK"

with EmbeddedServer(sys.argv[1], on_event=print) as server, InferenceServerClient(server.url) as triton:
    with ThreadPoolExecutor(24) as elsewhere:
        print(*sorted(set(elsewhere.map(ask, [32] * 8))))
        print(*sorted(set(elsewhere.map(ask, [4] * 48 + [1] * 48))))
    print(ask(1))
    print(ask(int(sys.argv[2]), "brain_volume"))
    print(ask(4, "brain_volume"))
"""


def with_shared_memory(size, repository, slices_of_a_head):
    command = 'mount -t tmpfs -o size="$1" tmpfs /dev/shm && exec "$2" -c "$3" "$4" "$5"'
    return subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            command,
            "sh",
            size,
            sys.executable,
            BURST,
            repository,
            str(slices_of_a_head),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )


pytestmark = pytest.mark.skipif(
    shutil.which("unshare") is None or os.geteuid() != 0, reason="only root can make /dev/shm smaller, with unshare"
)


def test_too_little_is_refused_with_what_to_do(tiny_repository):
    run = with_shared_memory("8m", tiny_repository, 40)

    assert run.returncode == 1
    assert "/dev/shm has 8 MiB free, and Triton needs 32 at least" in run.stderr
    assert "--shm-size=512m" in run.stderr


def test_little_is_told_and_survived(tiny_repository):
    run = with_shared_memory("64m", tiny_repository, 40)

    assert run.returncode == 0, run.stderr
    warning, *answers = run.stdout.splitlines()
    assert "at most 7 slices are worked on at a time" in warning
    assert answers == ["StatusCode.RESOURCE_EXHAUSTED", "OK", "OK", "StatusCode.RESOURCE_EXHAUSTED", "OK"]


def test_with_more_there_is_room_for_full_batches_and_a_usual_head(tiny_repository):
    run = with_shared_memory("300m", tiny_repository, 150)

    assert run.returncode == 0, run.stderr
    warning, *answers = run.stdout.splitlines()
    assert "at most 154 slices are worked on at a time" in warning
    assert answers == ["OK"] * 5
