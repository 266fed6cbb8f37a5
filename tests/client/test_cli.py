"""What the command line says before any server is asked."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from gliogate import runs
from gliogate.cli import main


@pytest.fixture
def scan(tmp_path) -> Path:
    cv2.imwrite(str(tmp_path / "scan.png"), np.zeros((8, 8, 3), np.uint8))
    return tmp_path / "scan.png"


def usage_error(capsys, *arguments: object) -> str:
    """Runs a command line that must be refused, and returns what it says."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    output, error = capsys.readouterr()
    assert output == ""
    return error


def test_help_and_version(capsys):
    for option in ("--help", "--version"):
        with pytest.raises(SystemExit, match="0"):
            main([option])
    text = capsys.readouterr().out

    assert "research use only" in text
    assert "gliogate 0." in text


def test_a_folder_without_scans(capsys, tmp_path):
    (tmp_path / "empty").mkdir()

    assert f"{tmp_path / 'empty'}: no scans in this folder" in usage_error(capsys, "analyze", tmp_path / "empty")


def test_outputs_that_cannot_be_written(capsys, scan):
    assert str(scan) in usage_error(capsys, "analyze", scan, "--output", scan)
    assert "nowhere" in usage_error(capsys, "analyze", scan, "--json", scan.parent / "nowhere" / "lines.json")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--detection-threshold", "1.5"], "1.5 is no probability, expected 0 to 1"),
        (["--mask-threshold", "nan"], "nan is no probability"),
        (["--gate", "ajar"], "invalid choice: 'ajar'"),
        (["--in-flight", "0"], "0 is not above 0"),
        (["--in-flight", "many"], "invalid int value: 'many'"),
        (["--timeout-s", "-1"], "-1 is not above 0"),
        (["--url", "http://localhost:8000"], "expected HOST:PORT"),
    ],
)
def test_options_with_values_that_none_can_have(capsys, scan, arguments, told):
    assert told in usage_error(capsys, "analyze", scan, *arguments)


def test_a_server_that_is_not_there(capsys, scan):
    assert main(["analyze", str(scan), "--url", "127.0.0.1:1"]) == 1

    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("gliogate: error: no Triton answers gRPC at 127.0.0.1:1")


def test_without_the_extra_the_error_says_what_to_install(capsys, scan, monkeypatch):
    monkeypatch.setitem(sys.modules, "gliogate.embedded", None)
    monkeypatch.delattr("gliogate.embedded", raising=False)

    assert main(["analyze", str(scan)]) == 1
    assert main(["serve"]) == 1

    assert capsys.readouterr().err.count("pip install 'gliogate[embedded]'") == 2


def test_a_file_made_of_rgb_is_written_in_that_order(tmp_path):
    runs.write_png(tmp_path / "red.png", np.full((2, 2, 3), (255, 0, 0), np.uint8))

    assert cv2.imread(str(tmp_path / "red.png"))[0, 0].tolist() == [0, 0, 255]
