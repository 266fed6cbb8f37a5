"""A cross-validation through the command line, on thin networks, and what is exported with its figures."""

import json
from pathlib import Path

import pytest
from support.courses import export, small, thinner, train

from training.__main__ import main
from training.metadata import newest_metadata

# Three networks are trained.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("thin_networks", "step_by_step")]


def test_crossvalidation_judges_every_patient_and_vouches_for_a_run_on_all(kaggle: Path, tmp_path: Path) -> None:
    folds, final, repository = tmp_path / "folds", tmp_path / "final", tmp_path / "repository"
    choices = [*small("flagship"), *thinner("flagship")]
    assert main(["crossvalidate", str(folds), "--data", str(kaggle), "--folds", "2", *choices]) == 0
    summary = json.loads((folds / "summary.json").read_text())
    assert (len(summary["patients"]), len(summary["folds"])) == (5, 2)

    assert train(final, kaggle, "--all-patients", *choices) == 0
    assert not (final / "summary.json").exists()
    vouched = ["--crossvalidation", str(folds)]
    assert main(["calibrate", str(final), "--data", str(kaggle), *vouched]) == 0
    assert export(final, kaggle, repository, *vouched) == 0
    metadata = newest_metadata(repository)[1]
    assert len(metadata["data"]["training_patients"]) == 5
    assert len(metadata["metrics"]["folds"]) == 2
    assert "Cross-validation in 2 folds" in (repository / "MODEL_CARD.md").read_text()
