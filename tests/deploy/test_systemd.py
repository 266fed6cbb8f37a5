"""The systemd unit: systemd takes it, and gliogate takes the commands in it."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gliogate.cli import main

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "gliogate.service"
PROGRAM = "/opt/gliogate/bin/gliogate"


def commands():
    text = UNIT.read_text().replace("\\\n#", "")
    return re.findall(r"ExecStart=(.+)", text)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_it(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, sys.executable))

    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)

    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("command", commands())
def test_gliogate_takes_its_commands(command, capsys):
    program, *arguments = shlex.split(command)
    assert program == PROGRAM
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])

    assert ended.value.code == 0
    assert "--no-restart" in capsys.readouterr().out


def test_both_commands_are_tried():
    assert len(commands()) == 2
