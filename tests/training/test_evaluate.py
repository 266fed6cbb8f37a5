"""What an evaluation says of where its threshold is from, and that `compare` takes what it leaves, as folders are."""

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from training.answers import Answers
from training.calibrate import Calibration, Part, pooled
from training.compare import compare
from training.data import Dataset, Split, phantoms
from training.evaluate import evaluate
from training.networks import Logits
from training.recipe import Phase, Recipe, Stage
from training.report import summarize
from training.run import Run

THIN = {"filters": [4, 8, 8], "depths": [1, 1, 1]}
STAGE = Stage(
    network="resunet_multitask", options=THIN, losses={"tumor": "bce", "mask": "bce"}, phases=(Phase(epochs=1),)
)
RECIPE = Recipe(name="thin", stages={"both": STAGE}, sensitivity=0.9)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are of no concern here, and take most of the time."""
    monkeypatch.setattr("training.evaluate.summarize", partial(summarize, resamples=10))


def part(seed: int) -> Part:
    """Ten patients of one slice, and what a detector that is often right says of them."""
    dataset = phantoms(10, prevalence=0.5, seed=seed)
    noise = np.random.default_rng(seed).normal(0, 2, 10)
    return Logits(
        (4.0 * dataset.tumor - 2 + noise).astype(np.float32), 8.0 * dataset.masks.astype(np.float16) - 4
    ), dataset


def begun(folder: Path, judged: Dataset) -> Run:
    return Run.create(folder, RECIPE, Split(("somebody",), tuple(judged.patients.tolist())))


def calibrated(folder: Path, parts: Sequence[Part]) -> None:
    Calibration.measure(*pooled(parts), sensitivity=0.9).write(folder)


def lead(folder: Path) -> str:
    found = re.search(r'class="lead">(.*?)</p>', (folder / "report.html").read_text(), re.DOTALL)
    assert found
    return " ".join(found[1].split())


def test_a_run_says_that_it_was_calibrated_by_whom_it_judges(tmp_path: Path) -> None:
    judged = part(1)
    begun(tmp_path, judged[1])
    calibrated(tmp_path, [judged])
    assert evaluate(tmp_path, judged[1], tmp_path, parts=[judged])["recipe"] == "thin"
    assert "fitted to 10 patients, 10 of whom are judged here" in lead(tmp_path)

    calibrated(tmp_path, [part(50)])
    evaluate(tmp_path, judged[1], tmp_path, parts=[judged])
    assert "fitted to 10 patients, none of whom is judged here" in lead(tmp_path)


def test_a_crossvalidation_shows_the_range_of_its_thresholds_and_can_be_compared(tmp_path: Path) -> None:
    parts = [part(seed) for seed in (1, 50, 99)]
    for number, (_, judged) in enumerate(parts, start=1):
        begun(tmp_path / f"fold-{number}", judged)
    calibrated(tmp_path, parts)
    summary = evaluate(tmp_path, pooled(parts)[1], tmp_path, parts=parts)
    used = sorted(fold["threshold"] for fold in summary["folds"])
    assert f"{used[0]:.3f} to {used[-1]:.3f} or more" in lead(tmp_path)
    assert "Each fold has its own threshold" in lead(tmp_path)
    assert compare([tmp_path])[0]["recipe"] == "thin"

    # As cross-validations were written before summaries named the recipe.
    del summary["recipe"]
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert compare([tmp_path])[0]["recipe"] == "thin"


def test_what_is_served_can_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = part(1)[1]
    version = tmp_path / "repository" / "brain_tumor" / "1"
    version.mkdir(parents=True)
    metadata = {
        "data": {"training_patients": ["somebody"]},
        "recipe": {"name": "thin"},
        "operating_point": {
            "detection_threshold": 0.5,
            "measured_on": {"patients": ["somebody", *judged.patients[:3]]},
        },
    }
    (version / "metadata.json").write_text(json.dumps(metadata))
    answers = Answers.gated(judged.tumor.astype(np.float32), judged.masks, threshold=0.5)
    monkeypatch.setattr("training.evaluate.ask", lambda *_: [answers])
    evaluate(tmp_path / "repository", judged, tmp_path / "evaluation")
    assert compare([tmp_path / "evaluation"])[0]["recipe"] == "thin"
    assert "fitted to 4 patients, 3 of whom are judged here" in lead(tmp_path / "evaluation")
