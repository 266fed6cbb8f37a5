"""`gliogate cohort` on a real Triton: as a user's command, killed, starved and shared."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.signals import pid_of_triton
from support.tiny_networks import slices
from support.volume_files import make_instances, write_dicom, write_kaggle, write_nifti
from support.waiting import wait_for

from gliogate.cli import cohort, main
from gliogate.embedded import EmbeddedServer

DONE, FAILED, UNUSABLE, TRY_AGAIN, INTERRUPTED, TERMINATED = 0, 1, 2, 75, 130, 143
NOBODY = "127.0.0.1:9"

FAULTS = """
import os, signal, sys, time

def fault(event, arguments):
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        name = os.path.basename(os.fsdecode(arguments[0]))
        if not name.endswith(".npy"):
            return
        if name.startswith("crashes"):
            os.kill(os.getpid(), signal.SIGSEGV)
        elif name.startswith("hangs"):
            time.sleep(600)
        elif name.startswith("slow"):
            time.sleep(0.4)

sys.addaudithook(fault)
"""
"""A decoder that crashes, and one that hangs, by the name of the file that is opened."""


def make_study(folder, name, level=0.75, count=3):
    """Slices of which one has tumor, in its left 192 columns where the level is 0.75; its neighbours are not sure."""
    path = folder / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, slices(*[min(level, 0.25)] * (count - 1), level))
    return path


def results(output):
    """What is kept of each study, by name."""
    # Folders come and go while it is read.
    folders = [Path(folder) for folder, _, files in os.walk(output) if "result.json" in files]
    names = {folder.relative_to(output).as_posix(): folder for folder in folders}
    return {
        name: json.loads((folder / "result.json").read_text())
        for name, folder in names.items()
        if not name.startswith(".cohort")
    }


def rows(output):
    with (output / "cohort.csv").open(encoding="utf-8", newline="") as file:
        return {row["study"]: row for row in csv.DictReader(file)}


@pytest.fixture
def studies(tmp_path):
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def command(studies, output, tiny_server):
    """The words of the command, with an address of its own or the tiny server's."""

    def command(*options, url=None):
        return ["cohort", str(studies), "--output", str(output), "--url", url or tiny_server.url, *options]

    return command


@pytest.fixture
def start(command, tmp_path):
    """Starts the command as a process; what is left of it is killed at the end."""
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "sitecustomize.py").write_text(FAULTS)
    started = []

    def start(*options, **where):
        path = os.pathsep.join([str(tmp_path / "faults"), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [Path(sys.executable).with_name("gliogate"), *command(*options, **where)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def children(pid):
    """The processes that a process has started, and those that they have."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found += [int(folder.name), *children(int(folder.name))]
    return found


def is_there(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_studies_of_every_kind_make_one_table(command, studies, output, capsys):
    head = np.stack([image[..., 1] for image in slices(0.375, 0.75, 0.375)], axis=-1)
    write_nifti(studies / "head.nii.gz", head)
    write_dicom(studies / "dicom with space", make_instances(head))
    write_kaggle(studies / "pictures", slices(0.75, 0.25), np.zeros((2, 256, 256), np.uint8))
    make_study(studies, "=1+1", level=0)
    (studies / "empty").mkdir()
    (studies / "broken.nii.gz").write_bytes(b"no NIfTI")
    (studies / "notes.txt").touch()

    assert main(command("--json", str(output.with_name("lines.jsonl")))) == FAILED

    told = capsys.readouterr()
    assert "left out: notes.txt" in told.err
    assert "6 studies, 3 with tumor, 1 no tumor, 2 failed" in told.out
    table = rows(output)
    assert {name: row["verdict"] for name, row in table.items()} == {
        "head.nii.gz": "tumor",
        "dicom with space": "tumor",
        "pictures": "tumor",
        "'=1+1.npy": "no tumor",
        "empty": "",
        "broken.nii.gz": "",
    }
    assert "broken.nii.gz" in table["broken.nii.gz"]["error"]
    assert "empty" in table["empty"]["error"]
    kept = results(output)
    assert kept["head.nii.gz"]["files"] == ["files/head_mask.nii.gz", "files/head_slices.csv"]
    for name, result in kept.items():
        folder = output / name
        here = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert here == {*result["files"], "result.json"}
    lines = [json.loads(line) for line in output.with_name("lines.jsonl").read_text().splitlines()]
    assert {line["study"]: line["error"] for line in lines} == {name: each["error"] for name, each in kept.items()}
    assert sorted(path.name for path in (output / ".cohort").rglob("*")) == ["claims", "tasks"]
    assert list(output.rglob("*.partial*")) == []


def test_what_is_done_is_not_done_again_and_needs_no_server(command, studies, output):
    make_study(studies, "a")
    make_study(studies, "b")
    assert main(command("--format", "nifti", "--workers", "1")) == DONE
    before = {path: path.stat().st_mtime_ns for path in output.rglob("result.json")}
    (output / "cohort.csv").unlink()

    assert main(command(url=NOBODY)) == DONE

    assert {path: path.stat().st_mtime_ns for path in output.rglob("result.json")} == before
    assert len(rows(output)) == 2
    # One is torn, another failed: both are done again.
    (output / "a.npy" / "result.json").write_text('{"study": "a.n')
    (output / "b.npy" / "result.json").write_text('{"study": "b.npy", "error": "x", "files": [], "found": null}')
    assert main(command("--format", "nifti", "--no-rename")) == DONE
    assert [result["error"] for result in results(output).values()] == [None, None]


def test_a_study_that_brings_its_worker_down_costs_no_other(start, studies, output):
    for name in ("a", "crashes", "hangs", "z"):
        make_study(studies, name)

    process = start("--study-s", "2", "--workers", "2")
    told, complained = process.communicate(timeout=60)

    assert process.returncode == FAILED
    assert "4 studies, 2 with tumor, 2 failed" in told, complained
    errors = {name: result["error"] for name, result in results(output).items()}
    assert errors["a.npy"] is errors["z.npy"] is None
    assert "brought its worker down, 2 times: SIGSEGV" in errors["crashes.npy"]
    assert "took longer than 2 s" in errors["hangs.npy"]
    assert rows(output)["hangs.npy"]["error"] == errors["hangs.npy"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_whatever_ends_it_leaves_no_process_and_another_run_goes_on(number, start, command, studies, output):
    for index in range(4):
        make_study(studies, f"slow{index}")

    process = start("--workers", "2")
    wait_for(lambda: results(output) != {} or process.poll() is not None, seconds=60)
    workers = children(process.pid)
    process.send_signal(number)
    process.communicate(timeout=60)

    assert process.returncode == {signal.SIGTERM: TERMINATED, signal.SIGINT: INTERRUPTED}.get(number, -number)
    assert len(workers) >= 3
    wait_for(lambda: not any(map(is_there, workers)), seconds=20)
    done = results(output)
    assert 1 <= len(done) < 4
    assert {result["error"] for result in done.values()} == {None}
    if number != signal.SIGKILL:
        assert list((output / ".cohort" / "claims").iterdir()) == []
    before = {path: path.stat().st_mtime_ns for path in output.rglob("result.json")}
    assert main(command()) == DONE
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(results(output)) == 4
    assert list((output / ".cohort" / "tasks").iterdir()) == []


def test_a_study_that_costs_task_after_task_is_done_alone_and_given_up(start, studies, output):
    """As where memory is short, and the system kills a container and not a process of it."""
    for name in ("a", "b", "hangs"):
        make_study(studies, name, count=9 if name == "hangs" else 3)

    for _ in range(2):
        shutil.rmtree(output / "b.npy", ignore_errors=True)
        process = start("--workers", "2", "--run-name", "1")
        # The largest is under way, or held until it is alone.
        wait_for(lambda: {"a.npy", "b.npy"} <= results(output).keys(), seconds=60)
        process.kill()
        process.communicate()
    told, complained = start("--workers", "2", "--run-name", "1").communicate(timeout=60)

    assert "3 studies, 2 with tumor, 1 failed" in told, complained
    assert "2 tasks that worked on it were killed" in results(output)["hangs.npy"]["error"]


def test_several_tasks_share_the_studies_and_any_of_them_makes_the_whole_table(start, studies, output):
    for index in range(6):
        make_study(studies, f"patient{index}/slow", count=2 + index)

    tasks = [start("--studies", "*/*", "--run-name", "7", "--workers", "1", "--json", "-") for _ in range(2)]
    told = [process.communicate(timeout=60) for process in tasks]

    assert [process.returncode for process in tasks] == [DONE, DONE], told
    shares = [[json.loads(line)["study"] for line in out.splitlines()] for out, _ in told]
    assert sorted(study for share in shares for study in share) == [f"patient{index}/slow.npy" for index in range(6)]
    assert all(len(share) >= 2 for share in shares)
    # The largest first.
    assert {shares[0][0], shares[1][0]} & {"patient4/slow.npy", "patient5/slow.npy"}
    assert {row["error"] for row in rows(output).values()} == {""}
    assert len(rows(output)) == 6


def test_what_failed_is_left_to_the_next_run(command, studies, capsys):
    (studies / "broken.nii.gz").write_bytes(b"no NIfTI")
    assert main(command("--run-name", "1", "--json", "-")) == FAILED
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert main(command("--run-name", "1", "--json", "-", url=NOBODY)) == FAILED
    assert capsys.readouterr().out == ""
    (studies / "broken.nii.gz").unlink()
    write_nifti(studies / "broken.nii.gz", np.zeros((8, 8, 2), np.uint8))
    assert main(command("--run-name", "2")) == DONE


def test_it_tells_how_far_it_is(command, studies, monkeypatch, capsys):
    monkeypatch.setattr(cohort, "_LINE_EVERY_S", 0.0)
    for index in range(4):
        make_study(studies, f"{index}", count=60)

    assert main(command("--workers", "1")) == DONE

    lines = [line for line in capsys.readouterr().err.splitlines() if " of 4 studies, " in line]
    assert lines[0] == "0 of 4 studies, begun"
    assert lines[-1].startswith("4 of 4 studies, ")


def test_a_reader_that_leaves_ends_it(start, studies, output):
    for index in range(2):
        make_study(studies, f"slow{index}")
    process = start("--workers", "1", "--json", "-")
    process.stdout.readline()
    process.stdout.close()

    assert process.wait(timeout=60) == FAILED
    assert 1 <= len(results(output)) <= 2


def test_a_server_that_comes_back_costs_no_study(command, studies, output, tiny_repository):
    make_study(studies, "long", count=200)
    make_study(studies, "short")
    with EmbeddedServer(tiny_repository, restart=True) as server:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("gliogate"), *command("--attempts", "1", url=server.url)],
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: (output / "short.npy" / "result.json").exists(), seconds=60)
        os.kill(pid_of_triton(server), signal.SIGKILL)
        told, _ = process.communicate(timeout=100)

    assert process.returncode == DONE, told
    assert {name: result["error"] for name, result in results(output).items()} == {"long.npy": None, "short.npy": None}


def test_without_a_server_another_run_may_go_on(command, studies, output, capsys):
    make_study(studies, "a")

    assert main(command("--ready-s", "0.2", url=NOBODY)) == TRY_AGAIN

    told = capsys.readouterr()
    assert NOBODY in told.err
    assert "1 studies, 1 not done" in told.out
    assert results(output) == {}
    assert rows(output)["a.npy"]["error"] == "not done"


def test_a_full_disk_ends_the_run_and_fails_no_study(command, studies, output, capsys):
    if os.geteuid():
        pytest.skip("mounting takes root")
    make_study(studies, "a", count=8)
    output.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", output]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted")
    try:
        assert main(command("--format", "overlays")) == TRY_AGAIN
        assert "No space left on device" in capsys.readouterr().err
        assert results(output) == {}
    finally:
        subprocess.run(["umount", "--lazy", output], check=True)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["cohort", "absent", "--output", "out"], "absent: No such file or directory"),
        (["cohort", "file", "--output", "out"], "file: Not a directory"),
        (["cohort", "empty", "--output", "out"], "no study is named *"),
        (["cohort", "some", "--output", "some/out"], "would be taken for studies"),
        (["cohort", "some", "--output", "file"], "file"),
        (["cohort", "some", "--output", "out", "--studies", "x*"], "no study is named x*"),
        (["cohort", "some", "--output", "out", "--studies", "../*"], "no pattern"),
        (["cohort", "some", "--output", "out", "--format", "mask"], "for pictures"),
        (["cohort", "some", "--output", "out", "--workers", "99", "--in-flight", "9"], "99 workers with 9 each"),
        (["cohort", "odd", "--output", "out"], "no study may be called cohort.csv"),
    ],
    ids=range(10),
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(words, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    make_study(tmp_path / "some", "a")
    (tmp_path / "odd" / "cohort.csv").mkdir(parents=True)

    assert main([*words, "--url", NOBODY]) == UNUSABLE
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_a_url_it_starts_a_server_that_ends_with_it(studies, output, tiny_repository, capsys):
    make_study(studies, "a")
    words = ["cohort", str(studies), "--output", str(output), "--model-repository", str(tiny_repository)]
    assert main(words) == DONE
    assert "1 studies, 1 with tumor" in capsys.readouterr().out
