"""The run folder: what it keeps, and whom it lets in."""

import json
from pathlib import Path

import pytest

from training.data import Split
from training.devices import precision_of
from training.errors import DataError, RunError
from training.recipes import find
from training.run import Run, read_split

SPLIT = Split(("a", "b"), ("c",))


def test_a_run_comes_back_as_it_was_begun(tmp_path: Path) -> None:
    begun = Run.create(tmp_path / "run", find("flagship"), SPLIT)
    assert Run.open(tmp_path / "run") == begun == Run.create(tmp_path / "run", find("flagship"), SPLIT)


def test_its_environment_says_in_which_precision_it_is_trained_here(tmp_path: Path) -> None:
    Run.create(tmp_path, find("flagship"), SPLIT)
    assert json.loads((tmp_path / "environment.json").read_text())["precision"] == precision_of(find("flagship"))


def test_another_recipe_is_told_what_differs(tmp_path: Path) -> None:
    Run.create(tmp_path, find("flagship"), SPLIT)
    other = find("flagship").with_changes(["stages.multitask.batch_size=8"])
    with pytest.raises(
        RunError, match=r"stages\.multitask\.batch_size 16 \(asked for: 8\); give this one another folder"
    ):
        Run.create(tmp_path, other, SPLIT)


def test_another_split_is_refused(tmp_path: Path) -> None:
    Run.create(tmp_path, find("flagship"), SPLIT)
    with pytest.raises(RunError, match="another split"):
        Run.create(tmp_path, find("flagship"), Split(("a", "c"), ("b",)))


def test_another_seed_is_refused_and_one_that_was_not_kept_is_taken(tmp_path: Path) -> None:
    def seed() -> int | None:
        kept: int | None = json.loads((tmp_path / "environment.json").read_text()).get("seed")
        return kept

    Run.create(tmp_path, find("flagship"), SPLIT)  # As runs were begun once.
    assert seed() is None
    Run.create(tmp_path, find("flagship"), SPLIT, seed=3)
    Run.create(tmp_path, find("flagship"), SPLIT)
    assert seed() == 3
    with pytest.raises(RunError, match=r"environment\.json: seed 3 \(asked for: 4\); give this run another folder"):
        Run.create(tmp_path, find("flagship"), Split(("a", "c"), ("b",)), seed=4)


def test_a_stage_that_was_not_trained_names_the_command(tmp_path: Path) -> None:
    run = Run.create(tmp_path, find("flagship"), SPLIT)
    assert not run.is_trained()
    with pytest.raises(RunError, match="not trained to its end yet; `python -m training train"):
        run.weights("multitask")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"training": "a", "validation": ["b"]}', '{"training": ["a"]}'])
def test_a_split_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(RunError, match=r"split\.json: "):
        read_split(tmp_path / "split.json")


def test_a_patient_on_both_sides_is_named(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text(json.dumps({"training": ["a", "b"], "validation": ["b"]}))
    with pytest.raises(DataError, match="b on both sides"):
        read_split(tmp_path / "split.json")


def test_nobody_to_learn_from_is_refused() -> None:
    with pytest.raises(DataError, match="no patient to learn from"):
        Split((), ("a",))
