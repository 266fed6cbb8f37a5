"""What stops a training costs what came after its last epoch, and nothing else; what cannot go on is one clear line."""

import signal
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from support.courses import epochs_logged, train

CHECKOUT = Path(__file__).parents[2]

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("precision_as_it_was", "step_by_step")]

THIN = (
    "--recipe", "resunet-multitask",
    "--stages", "multitask",
    "--set", 'stages.multitask.options={"filters": [4, 8, 8], "depths": [1, 1, 1]}',
    "--set", 'stages.multitask.losses={"tumor": "bce", "mask": "bce"}',
    "--set", "stages.multitask.phases.0.window=64",
)  # fmt: skip
"""What stops a training is the same with any network: this one is as small as they get."""

STEP_BY_STEP = "import tensorflow; tensorflow.config.run_functions_eagerly(True)"
"""What the fixture of this name does, for a process of its own."""


def test_an_interrupted_training_carries_on_after_its_last_epoch(kaggle: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    choices = ["--epochs", "3", *THIN, "--set", "stages.multitask.phases.1.window=64"]
    source = f"{STEP_BY_STEP}; import runpy; runpy.run_module('training', run_name='__main__')"
    command = [sys.executable, "-c", source, "train", run, "--data", kaggle, *choices]
    with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "multitask: epoch 1 of 3" in line:
                process.send_signal(signal.SIGINT)
                break
        assert "the same command carries on" in process.stderr.read()
    assert process.returncode == 130
    done = epochs_logged(run, "multitask")
    assert done in ([1], [1, 2])
    assert not (run / "multitask.keras").exists()

    assert train(run, kaggle, *choices) == 0
    assert epochs_logged(run, "multitask") == [1, 2, 3]


def test_a_full_disk_at_the_checkpoint_is_one_clear_line_and_costs_one_epoch(
    kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that is full cannot be had without root, so the writing of the file fails in its place."""

    def full(_: keras.Model, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("training.callbacks.save", full)
        assert train(tmp_path / "run", kaggle, "--epochs", "1", *THIN) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("training: ")
    assert "No space left on device" in error
    assert not list((tmp_path / "run").glob("*partial*"))
    assert not list((tmp_path / "run").glob("*.keras"))


def test_a_loss_that_is_no_number_ends_it_and_leaves_no_network(
    kaggle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = ("--set", "stages.multitask.learning_rate=1e30", "--set", "stages.multitask.warm_up=0")
    assert train(tmp_path / "run", kaggle, "--epochs", "2", *THIN, *endless) == 1
    assert "the loss is not a number in epoch" in capsys.readouterr().err
    assert not (tmp_path / "run" / "multitask.keras").exists()
