"""Several runs side by side, from summaries as the report writes them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.answers import Answers
from training.compare import compare
from training.data import Dataset, phantoms
from training.errors import RunError, TrainingError
from training.report import summarize

THRESHOLD = 0.5

MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Ten patients of one slice each, six with tumor."""
    return phantoms(10, prevalence=0.6, seed=40)


@pytest.fixture
def make_run(dataset: Dataset, tmp_path: Path) -> MakeRun:
    """Makes a run folder, whose masks lack this many rows of every tumor."""

    def make(name: str, *, rows_lost: int, patients: slice = slice(None), **more: object) -> Path:
        chosen = dataset.at(np.arange(len(dataset))[patients])
        masks = chosen.masks.copy()
        for mask in masks:
            rows = np.flatnonzero(mask.any(axis=1))
            mask[rows[:rows_lost]] = 0
        probability = np.where(chosen.tumor, 0.9, 0.1).astype(np.float32)
        answers = Answers.gated(probability, masks, threshold=THRESHOLD)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "recipe.json").write_text(json.dumps({"name": f"recipe of {name}"}))
        (folder / "summary.json").write_text(
            json.dumps(summarize(chosen, answers, threshold=THRESHOLD, resamples=50) | more)
        )
        return folder

    return make


def dice_of(run: Path) -> dict[str, float]:
    cases = json.loads((run / "summary.json").read_text())["cases"]
    return {case["patient"]: case["through_gate"]["dice"] for case in cases if case["through_gate"]["dice"] is not None}


def test_runs_are_held_against_the_first_patient_by_patient(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    good = make_run("good", rows_lost=1, parameters=2_100_000, seconds=5025)
    poor = make_run("poor", rows_lost=6)
    first, second = compare([good, poor])
    assert (first["recipe"], second["recipe"]) == ("recipe of good", "recipe of poor")
    assert first["dice_difference"] is None
    assert second["same_patients"]
    assert second["shared_patients"] == 6, "those without tumor have no Dice"
    differences = [dice_of(poor)[patient] - dice_of(good)[patient] for patient in dice_of(good)]
    assert second["dice_difference"] == pytest.approx(np.mean(differences))
    low, high = second["dice_difference_interval"]
    assert low < second["dice_difference"] < high < 0, "every patient is worse, so chance does not explain it"

    printed = capsys.readouterr().out
    assert f"{first['volume_dice_mean']:.3f}" in printed
    assert "2.10 M" in printed
    assert "1 h 24 min" in printed
    assert "Other patients" not in printed


def test_runs_on_other_patients_are_marked(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    everyone = make_run("everyone", rows_lost=1)
    some = make_run("some", rows_lost=4, patients=slice(0, 6))
    others = make_run("others", rows_lost=4, patients=slice(6, 10))
    assert not set(dice_of(some)) & set(dice_of(others))

    _, row = compare([everyone, some])
    assert not row["same_patients"]
    assert row["shared_patients"] == len(dice_of(some)) >= 2
    assert row["dice_difference"] < 0
    assert "* Other patients than the first run" in capsys.readouterr().out

    _, row = compare([some, others])
    assert (row["shared_patients"], row["dice_difference"]) == (0, None)


@pytest.mark.parametrize("suffix", [".json", ".md", ".html"])
def test_table_is_written_as_its_suffix_says(make_run: MakeRun, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"table{suffix}"
    rows = compare([make_run("good", rows_lost=1), make_run("a|b<i>", rows_lost=3)], output)
    text = output.read_text()
    if suffix == ".json":
        assert json.loads(text)[1]["dice_difference"] == rows[1]["dice_difference"]
    elif suffix == ".md":
        header, rule, *lines = text.split("\n\n")[0].splitlines()
        assert len(lines) == 2
        assert "recipe of a\\|b" in lines[1]
        assert {line.replace("\\|", "").count("|") for line in (header, rule, *lines)} == {header.count("|")}
    else:
        assert "recipe of a|b&lt;i&gt;" in text
        assert "<script" not in text


def test_a_run_that_was_not_evaluated_is_named_with_what_to_do(make_run: MakeRun) -> None:
    run = make_run("new", rows_lost=1)
    (run / "summary.json").unlink()
    with pytest.raises(RunError, match=r"new: no summary\.json; `python -m training evaluate \S+new` writes it"):
        compare([run])


def test_a_summary_that_names_no_recipe_is_named_with_what_to_do(make_run: MakeRun) -> None:
    run = make_run("old", rows_lost=1)
    (run / "recipe.json").unlink()
    with pytest.raises(RunError, match=r"old/summary\.json: names no recipe; `python -m training evaluate` writes it"):
        compare([run])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("summary.json", "{", r"summary\.json: cannot be read as JSON: "),
        ("summary.json", "[]", r"summary\.json: holds a list, expected an object"),
        ("summary.json", '{"detector": {}}', r"run: summary\.json .* not as this version writes it: 'through_gate'"),
        ("recipe.json", "{}", r"run: summary\.json or recipe\.json is not as this version writes it: 'name'"),
    ],
)
def test_a_file_of_other_content_is_named(make_run: MakeRun, name: str, text: str, message: str) -> None:
    run = make_run("run", rows_lost=1)
    (run / name).write_text(text)
    with pytest.raises(RunError, match=message):
        compare([run])


def test_output_of_an_unknown_kind_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"table\.xls: cannot write \.xls; \.html, \.json, \.md can be"):
        compare([tmp_path / "nothing"], tmp_path / "table.xls")


def test_output_that_cannot_be_written_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"nowhere/table\.md: cannot be written: No such file"):
        compare([make_run("run", rows_lost=1)], tmp_path / "nowhere" / "table.md")
