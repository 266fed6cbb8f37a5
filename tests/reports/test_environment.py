"""What a report says of where its figures are from."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from reports.environment import environment

CHECKOUT = Path(__file__).parents[2]


def test_it_has_what_a_figure_is_understood_by():
    told = environment(("numpy", "no-such-package"))
    assert json.loads(json.dumps(told)) == told
    assert told["packages"] == {"numpy": version("numpy")}
    assert told["cores"] == len(os.sched_getaffinity(0))
    assert all(told[key] for key in ("started", "command", "python", "cpu", "system"))


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert environment(())["commit"] is None


def test_the_command_is_as_it_was_called(tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").touch()
    (room / "__main__.py").write_text("from reports.environment import environment\nprint(environment(())['command'])")
    path = os.pathsep.join([str(tmp_path), str(CHECKOUT), *sys.path])
    command = [sys.executable, "-m", "room", "--rate", "20"]
    told = subprocess.check_output(command, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path})
    assert told.strip() == str(["python", *command[1:]])
