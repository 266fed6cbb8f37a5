"""`export` holds a run against what is served, on patients that neither learned from, before a network is built."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.calibrations import made_up

from gliogate.contract import DETECTOR, ENSEMBLE
from training.against_served import ENOUGH, TOLERANCE, figures, hold_against_served
from training.answers import Answers
from training.data import Dataset, Split, phantoms
from training.errors import RunError, WorseError
from training.export import export
from training.files import write_json
from training.metadata import FILE, newest_metadata, patients_of
from training.recipes import find
from training.report import summarize
from training.run import Run

SLICES = 4


def heads(count: int) -> Dataset:
    """Patients p00, p01 and so on, each of two slices with tumor and two without."""
    slices = phantoms(SLICES * count, prevalence=0.5, seed=3)
    # With tumor and without in turns.
    order = np.argsort(slices.tumor, kind="stable").reshape(2, -1).T.ravel()
    return replace(slices.at(order), patients=np.repeat([f"p{n:02}" for n in range(count)], SLICES))


EVERYBODY = heads(12)
PATIENTS = tuple(np.unique(EVERYBODY.patients).tolist())


def judged(patients: Sequence[str], *, knows: float = 1.0, outlines: float = 1.0) -> dict[str, Any]:
    """What is counted of these patients.

    Args:
        patients: who.
        knows: share of the slices that the detector is right about; one that knows half of them knows nothing.
        outlines: share of a slice's rows that the masks reach.
    """
    dataset = EVERYBODY.of(patients)
    is_right = np.random.default_rng(0).permutation(len(dataset)) < round(knows * len(dataset))
    probability = np.where(is_right, dataset.tumor, ~dataset.tumor).astype(np.float32)
    masks = dataset.masks.copy()
    masks[:, : round((1 - outlines) * masks.shape[1])] = 0
    return summarize(dataset, Answers.gated(probability, masks, threshold=0.5), threshold=0.5, resamples=1)


def before_version_9(summary: Mapping[str, Any]) -> dict[str, Any]:
    """As version 8 tells of itself: counts without probabilities."""
    cases = [{key: value for key, value in case.items() if key != "probabilities"} for case in summary["cases"]]
    return {**summary, "cases": cases}


def repository_of(folder: Path, *, learned_from: Sequence[str], evidence: Mapping[str, Any] | None = None) -> Path:
    """A model repository that says so much of its one version."""
    version = folder / ENSEMBLE.name / "7"
    version.mkdir(parents=True)
    metadata = {
        "data": {"training_patients": list(learned_from)},
        "metrics": {"held_out": evidence or {}},
        "operating_point": {"detection_threshold": 0.5},
    }
    (version / FILE).write_text(json.dumps(metadata))
    return folder


def refusal(summary: Mapping[str, Any], repository: Path) -> str:
    with pytest.raises(WorseError) as error:
        hold_against_served(summary, EVERYBODY, repository, force=False)
    return str(error.value)


@pytest.mark.parametrize("as_told_now", [True, False], ids=["probabilities", "counts alone"])
def test_a_run_that_is_worse_is_refused_with_patients_and_figures(as_told_now: bool, tmp_path: Path) -> None:
    """The served version learned from everybody; its cross-validation judged them all the same."""
    evidence = judged(PATIENTS) if as_told_now else before_version_9(judged(PATIENTS))
    repository = repository_of(tmp_path, learned_from=PATIENTS, evidence=evidence)
    own = PATIENTS[:5]

    knows_nothing = refusal(judged(own, knows=0.5), repository)
    assert "worse than version 7, which is served, on p00, p01, p02, p03, p04: " in knows_nothing
    assert ("AUC 0." if as_told_now else "mean of sensitivity and specificity 0.") in knows_nothing
    assert "served 1.000" in knows_nothing
    assert "--force" in knows_nothing

    half_a_mask = refusal(judged(own, outlines=0.5), repository)
    assert "Dice of a volume through the gate 0." in half_a_mask
    assert "AUC" not in half_a_mask
    assert "sensitivity" not in half_a_mask

    hold_against_served(judged(own), EVERYBODY, repository, force=False)


def test_of_many_patients_the_message_has_the_number_and_the_log_the_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository = repository_of(tmp_path, learned_from=(), evidence=judged(PATIENTS))
    with caplog.at_level("INFO"):
        told = refusal(judged(PATIENTS, knows=0.5), repository)
    assert f"on {len(PATIENTS)} patients" in told
    assert ", ".join(PATIENTS) in caplog.text


def test_only_patients_with_the_same_slices_are_compared(tmp_path: Path) -> None:
    evidence = judged(PATIENTS)
    for case in evidence["cases"][:-1]:
        case["slices"] += 1
    repository = repository_of(tmp_path, learned_from=PATIENTS, evidence=evidence)
    assert f"on {PATIENTS[-1]}: " in refusal(judged(PATIENTS, knows=0.5), repository)


def test_a_little_worse_is_as_good(tmp_path: Path) -> None:
    repository = repository_of(tmp_path, learned_from=PATIENTS, evidence=judged(PATIENTS))
    own = judged(PATIENTS[:5])
    for dice in (0.996, 0.994):
        for case in own["cases"]:
            case["through_gate"]["dice"] = dice
        hold_against_served(own, EVERYBODY, repository, force=dice < 1 - TOLERANCE)
    assert "Dice of a volume through the gate 0.994, served 1.000" in refusal(own, repository)


def test_an_interval_is_of_paired_differences_and_of_enough_patients() -> None:
    some, better = (judged(PATIENTS, outlines=outlines)["cases"] for outlines in (0.6, 0.7))
    assert len(PATIENTS) >= ENOUGH
    [_, dice] = figures(better, some)
    low, high = dice.interval
    # Volumes differ more between patients than the two sides do on any of them.
    assert 0 < low <= dice.run - dice.served <= high < np.ptp([case["through_gate"]["dice"] for case in some])
    [_, of_few] = figures(better[: ENOUGH - 1], some[: ENOUGH - 1])
    assert np.isnan(of_few.interval).all()
    assert "(" not in str(of_few)


def test_nobody_to_compare_on_is_refused(tmp_path: Path) -> None:
    repository = repository_of(tmp_path, learned_from=PATIENTS, evidence=judged(PATIENTS[:2]))
    told = refusal(judged(PATIENTS[5:]), repository)
    assert "cannot be compared with version 7" in told
    assert f"it learned from all {len(PATIENTS[5:])} patients" in told
    assert "--force" in told
    hold_against_served(judged(PATIENTS[5:]), EVERYBODY, repository, force=True)


def test_a_version_that_says_nothing_of_itself_is_not_compared_with(tiny_repository: Path) -> None:
    told = refusal(judged(PATIENTS), tiny_repository)
    assert told.startswith("cannot be compared with what is served: ")
    assert "metadata.json" in told


def test_force_says_what_it_overrules(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    repository = repository_of(tmp_path, learned_from=PATIENTS, evidence=judged(PATIENTS))
    hold_against_served(judged(PATIENTS[:5], knows=0.5), EVERYBODY, repository, force=True)
    assert "worse than version 7" in caplog.text


def test_where_nothing_is_served_yet_nothing_is_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        hold_against_served(judged(PATIENTS, knows=0.5), EVERYBODY, tmp_path / "new", force=False)
    assert "nothing is served from here yet" in caplog.text


def test_a_summary_without_counts_is_named(tmp_path: Path) -> None:
    repository = repository_of(tmp_path, learned_from=PATIENTS)
    with pytest.raises(RunError, match=r"summary\.json: has no counts of patients"):
        hold_against_served({"slices": 4}, EVERYBODY, repository, force=False)


def test_the_served_version_is_asked_about_strangers_only(
    tiny_repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By a real Triton: what its evidence does not know, and it did not learn from."""
    repository = Path(shutil.copytree(tiny_repository, tmp_path / "repository"))
    described = repository_of(tmp_path / "described", learned_from=PATIENTS[:3], evidence=judged(PATIENTS[2:5]))
    shutil.copy(described / ENSEMBLE.name / "7" / FILE, repository / ENSEMBLE.name / "1" / FILE)
    # Of a version that was never finished.
    (repository / DETECTOR.name / "2").mkdir()
    with caplog.at_level("INFO"):
        hold_against_served(judged(PATIENTS[:6]), EVERYBODY, repository, force=False)
    assert "that it never saw: p05\n" in caplog.text
    assert "compared with version 1 on p02, p03, p04, p05: AUC 1.000, served " in caplog.text


def test_a_run_is_refused_before_a_network_is_built(
    tmp_path: Path, shipped_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the shipped version's own metadata knows is enough."""
    cases = patients_of(shipped_repository, *newest_metadata(shipped_repository))["slices"][:18]
    shut = [
        case | {"tumor_slices_missed": case["tumor_slices"], "through_gate": case["through_gate"] | {"dice": 0.0}}
        for case in cases
    ]
    patients = tuple(case["patient"] for case in cases)
    run = Run.create(tmp_path / "run", find("flagship"), Split(("somebody",), patients))
    made_up(patients).write(run.folder)
    write_json(run.folder / "summary.json", {"cases": shut, "in_heads": {"cases": []}})
    repository = Path(shutil.copytree(shipped_repository, tmp_path / "repository"))
    before = sorted(tmp_path.rglob("*"))

    monkeypatch.setattr("training.export.networks_to_serve", lambda *_: pytest.fail("too late"))
    with pytest.raises(WorseError, match=r"on 18 patients .*: mean Dice of a volume through the gate 0\.000"):
        export(run, EVERYBODY, repository)
    assert sorted(tmp_path.rglob("*")) == before
