"""The command line: mistakes are found before anything is read, trained or written."""

import json
from pathlib import Path

import pytest

from training.__main__ import main


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command which is refused leaves."""
    assert main([str(argument) for argument in arguments]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("training: ")
    return error


def test_a_mistake_in_a_recipe_is_found_before_the_data_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("train", "crossvalidate"):
        change = ("--set", "stages.multitask.options.widths=abc")
        error = refusal(capsys, command, tmp_path / "run", "--data", tmp_path / "nothing", *change)
        assert "stages.multitask: options: mobilenetv2_multitask cannot be built with {'widths': 'abc'}" in error
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stages", "nostage"], "no stage nostage; it has multitask"),
        (["--split", "{tmp}/missing.json"], "missing.json: no such file"),
        (["--split", "{tmp}/nested.json"], 'nested.json: training: expected names of patients, found ["a"]'),
        (["--split", "{tmp}/unknown.json"], "validation names TCGA_XX_9999, not in the dataset"),
    ],
)
def test_a_start_that_is_refused_leaves_no_folder(
    arguments: list[str],
    message: str,
    kaggle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "--split" in arguments:
        monkeypatch.setattr("training.commands.check_recipe", lambda *_: None)
    (tmp_path / "nested.json").write_text('{"training": [["a"]], "validation": []}')
    (tmp_path / "unknown.json").write_text('{"training": ["TCGA_CS_0001"], "validation": ["TCGA_XX_9999"]}')
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    assert message in refusal(capsys, "train", tmp_path / "run", "--data", kaggle, *filled)
    assert not (tmp_path / "run").exists()


def test_export_with_another_backend_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    error = refusal(capsys, "export", tmp_path / "run", "--data", tmp_path / "nothing")
    assert "export: Keras runs with jax, expected TensorFlow; unset KERAS_BACKEND" in error


def test_help_states_no_sensitivity_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["calibrate", "--help"])
    told = capsys.readouterr().out
    assert "the recipe's)" in " ".join(told.split())
    assert "0.98" not in told


def test_a_split_is_taken_as_it_is_named(kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = {"training": ["TCGA_CS_0001", "TCGA_DU_0002"], "validation": ["TCGA_DU_0003"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    monkeypatch.setattr("training.commands.check_recipe", lambda *_: None)
    monkeypatch.setattr("training.commands.train_stages", lambda *_, **__: None)
    arguments = ["--split", str(tmp_path / "split.json"), "--seed", "5"]
    assert main(["train", str(tmp_path / "run"), "--data", str(kaggle), *arguments]) == 0
    assert json.loads((tmp_path / "run" / "split.json").read_text()) == split
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["seed"] == 5
