"""A command's standard error is its own: nothing of what TensorFlow says when it is loaded, and all else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from training import quiet

CHECKOUT = Path(__file__).parents[2]


def test_a_command_says_nothing_of_tensorflow(tmp_path: Path) -> None:
    """The variable asks for oneDNN, which TensorFlow then tells of on any processor."""
    process = subprocess.run(
        [sys.executable, "-m", "training", "evaluate", tmp_path / "nothing", "--data", tmp_path],
        cwd=CHECKOUT,
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1", "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    [line] = process.stderr.splitlines()
    assert line.startswith("training: ")
    assert process.returncode == 1


def test_only_noise_is_taken_out(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """C++ writes to the file descriptor, past Python's `sys.stderr`."""
    noise = [
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "I0000 00:00:1795965844.810807   15399 port.cc:153] oneDNN custom operations are on.",
        "E0000 00:00:1758131045.203198 3722035 cuda_dnn.cc:8579] Unable to register cuDNN factory: once is enough",
    ]
    meant = ["E0000 00:00:1758131045.2 1 cuda_driver.cc:1] failed call to cuInit: CUDA_ERROR_UNKNOWN", "a warning"]

    def imported(_: str) -> None:
        os.write(2, "\n".join([*noise, *meant, ""]).encode())

    monkeypatch.setattr(quiet, "import_module", imported)
    quiet.import_keras()
    assert capfd.readouterr().err.splitlines() == meant
