"""Who works on what, told by files."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
from support.waiting import wait_for

from gliogate.cohort.claims import Claims, Owner, Taking

STALE_S = 0.6


def task(tmp_path, stale_s=60.0):
    return Claims(tmp_path, stale_s=stale_s)


def claim_of(tmp_path):
    (claim,) = (tmp_path / ".cohort" / "claims").iterdir()
    return claim


@pytest.fixture
def elsewhere(tmp_path):
    """A claim of a task on another machine, which last showed itself some seconds ago."""

    def elsewhere(study, seconds):
        with task(tmp_path) as claims:
            claims.take(study)
            claim = claim_of(tmp_path)
            content = asdict(replace(Owner.myself(), task="theirs", place="another machine"))
        claim.write_text(json.dumps(content))
        alive = tmp_path / ".cohort" / "tasks" / "theirs" / "alive"
        alive.parent.mkdir()
        alive.touch()
        os.utime(alive, (time.time() - seconds,) * 2)
        return alive

    return elsewhere


def test_a_study_is_taken_once_and_can_be_given_back(tmp_path):
    with task(tmp_path) as ours, task(tmp_path) as theirs:
        assert ours.take("a") is Taking.TAKEN
        assert theirs.take("a") is Taking.HELD  # Its process is seen to be there.
        assert ours.has("a")
        assert not theirs.has("a")
        assert theirs.take("b") is Taking.TAKEN
        theirs.release("a")
        assert ours.has("a")
        ours.release("a")
        assert theirs.take("a") is Taking.TAKEN
        assert ours.count_tasks() == 2

    assert sorted(path.name for path in (tmp_path / ".cohort").rglob("*")) == ["claims", "tasks"]


@pytest.mark.parametrize("name", ["with space", "line\nbreak", "ü", "\udcff", "p/" + "x" * 250, "=1+1", ".."])
def test_any_name_can_be_taken(name, tmp_path):
    with task(tmp_path) as claims:
        assert claims.take(name) is Taking.TAKEN
        assert claims.has(name)


def test_what_a_killed_process_of_this_machine_had_is_taken_at_once(tmp_path):
    program = "import sys, time; from pathlib import Path; from gliogate.cohort.claims import Claims\n"
    program += "with Claims(Path(sys.argv[1])) as claims: claims.take('a'); print('taken', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "taken\n"
    with task(tmp_path) as claims:
        assert claims.take("a") is Taking.HELD
        process.kill()
        process.communicate()
        assert claims.take("a") is Taking.TAKEN
        assert claims.count_tasks() == 1


def test_a_task_on_another_machine_is_over_when_it_has_been_silent(elsewhere, tmp_path):
    elsewhere("a", seconds=61)
    with task(tmp_path) as claims:
        assert claims.take("a") is Taking.TAKEN


def test_a_task_on_another_machine_is_there_once_it_shows_itself(elsewhere, tmp_path):
    alive = elsewhere("a", seconds=5)
    with task(tmp_path) as claims:
        assert claims.take("a") is Taking.UNSURE
        alive.write_text("again")
        assert claims.take("a") is Taking.HELD
        # It was there once; whether it still is shows anew.
        claims.forget()
        assert claims.take("a") is Taking.UNSURE


def test_the_file_system_s_clock_counts(elsewhere, tmp_path, monkeypatch):
    """This node's clock is an hour ahead of the file server's."""
    elsewhere("a", seconds=5)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    with task(tmp_path) as claims:
        assert claims.take("a") is Taking.UNSURE


def test_a_claim_that_says_nothing_is_over_after_a_while(tmp_path):
    with task(tmp_path, STALE_S) as claims:
        claims.take("a")
        claim_of(tmp_path).write_bytes(b"")
        assert not claims.has("a")
        assert claims.take("a") is Taking.UNSURE
        wait_for(lambda: claims.take("a") is Taking.TAKEN, seconds=10)


def test_a_task_shows_itself_all_the_time_also_when_others_buried_it(tmp_path):
    with task(tmp_path, STALE_S) as claims:
        alive = claims.scratch / "alive"
        alive.unlink()
        claims.scratch.rmdir()
        wait_for(alive.exists, seconds=10)


def test_of_many_tasks_one_takes_a_study_that_is_left(elsewhere, tmp_path):
    elsewhere("a", seconds=61)
    program = "import sys; from pathlib import Path; from gliogate.cohort.claims import Claims\n"
    program += "with Claims(Path(sys.argv[1]), stale_s=60) as claims:\n"
    program += "    print(claims.take('a').name, flush=True); sys.stdin.read()"
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    said = [process.stdout.readline().strip() for process in tasks]
    for process in tasks:
        process.communicate()
    assert said.count("TAKEN") == 1


def test_a_claim_tells_how_many_tasks_were_killed_with_it(elsewhere, tmp_path):
    elsewhere("a", seconds=61)
    with task(tmp_path) as claims:
        assert claims.take("b") is claims.take("a") is Taking.TAKEN
        assert (claims.lost("a"), claims.lost("b")) == (1, 0)
        claims.release("a")
        assert claims.take("a") is Taking.TAKEN
        assert claims.lost("a") == 0
