"""The Slurm array, its tasks run by bash with the variables that Slurm sets; only `scontrol` is a stand-in."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from support.waiting import wait_for

from gliogate.contract import CHANNELS
from gliogate.phantom import make_phantoms

SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "cohort.sbatch"
DONE, FAILED, UNUSABLE, TRY_AGAIN, TERMINATED = 0, 1, 2, 75, 143
NOBODY = "127.0.0.1:9"


@pytest.fixture
def studies(tmp_path):
    """Small heads of phantoms, one of them in a file that is torn."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for number in range(5):
        planes = [
            phantom.image[..., CHANNELS.index("FLAIR")]
            for phantom in make_phantoms(2 + number, prevalence=0.5, seed=number)
        ]
        head = nibabel.Nifti1Image(np.stack(planes, axis=-1).transpose(1, 0, 2), np.diag((1, 1, 5, 1)))
        nibabel.save(head, folder / f"patient {number}_flair.nii.gz")
    (folder / "torn_flair.nii.gz").write_bytes((folder / "patient 4_flair.nii.gz").read_bytes()[:2000])
    return folder


@pytest.fixture
def start(tmp_path, studies, shipped_server):
    """Starts a task as Slurm's daemon would; what is left of it ends with the test."""
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/requeued"\n')
    scontrol.chmod(0o755)
    started = []

    def start(task, *options, url=shipped_server.url, **variables):
        # Slurm copies the script, and runs it in the folder where sbatch was.
        copied = shutil.copy(SCRIPT, tmp_path / f"slurm_script_{task}")
        slurm = {
            "SLURM_JOB_ID": f"{100 + task}",
            "SLURM_ARRAY_JOB_ID": "100",
            "SLURM_ARRAY_TASK_ID": f"{task}",
            "SLURM_ARRAY_TASK_COUNT": "3",
            "SLURM_CPUS_PER_TASK": "1",
            "GLIOGATE_URL": url,
            "PATH": os.pathsep.join([str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        process = subprocess.Popen(
            ["bash", copied, studies.name, "results", *options],
            cwd=tmp_path,
            env=os.environ | slurm | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def requeued(tmp_path):
    """Reads what was queued again."""
    path = tmp_path / "requeued"
    return lambda: path.read_text().splitlines() if path.exists() else []


def test_tasks_of_an_array_share_the_studies(start, tmp_path, requeued):
    tasks = [start(task, "--json", f"done-{task}.jsonl") for task in range(3)]
    told = [process.communicate(timeout=120)[0] for process in tasks]

    # The last at least knows of the torn one.
    assert FAILED in [process.returncode for process in tasks], told
    assert {process.returncode for process in tasks} <= {DONE, FAILED}, told
    assert "task 2 of 3 ended with" in told[2]
    done = [
        json.loads(line)["study"] for path in tmp_path.glob("done-*.jsonl") for line in path.read_text().splitlines()
    ]
    assert sorted(done) == [*(f"patient {number}_flair.nii.gz" for number in range(5)), "torn_flair.nii.gz"]
    assert len((tmp_path / "results" / "cohort.csv").read_text().splitlines()) == 1 + 6
    assert requeued() == []


@pytest.mark.parametrize(("number", "queued"), [(signal.SIGUSR1, ["requeue 100_1"]), (signal.SIGTERM, [])])
def test_a_task_out_of_time_is_queued_again_and_one_that_is_cancelled_is_not(number, queued, start, requeued, tmp_path):
    process = start(1, "--ready-s", "60", url=NOBODY)
    wait_for(lambda: list(tmp_path.glob("results/.cohort/claims/*")) != [], seconds=30)
    os.kill(process.pid, number)
    told, _ = process.communicate(timeout=60)

    assert process.returncode == TERMINATED, told
    assert requeued() == queued
    assert list((tmp_path / "results" / ".cohort" / "claims").iterdir()) == []


@pytest.mark.parametrize(("restarts", "queued"), [("0", ["requeue 100_0"]), ("3", [])])
def test_a_task_without_a_server_is_queued_again_three_times(restarts, queued, start, requeued):
    process = start(0, "--ready-s", "0.1", url=NOBODY, SLURM_RESTART_COUNT=restarts)
    told, _ = process.communicate(timeout=60)

    assert process.returncode == TRY_AGAIN, told
    assert requeued() == queued


def test_it_says_how_it_is_called():
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == UNUSABLE
    assert "usage: sbatch" in done.stderr


def test_its_directives_are_sbatch_s():
    """All stand before the first command, where Slurm reads them."""
    head = SCRIPT.read_text().partition("\nset -o")[0]
    found = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", head, re.MULTILINE))
    assert found["signal"] == "B:USR1@120"
    assert {"array", "cpus-per-task", "mem", "time", "requeue"} <= found.keys()
    assert SCRIPT.read_text().count("#SBATCH") == len(found)
