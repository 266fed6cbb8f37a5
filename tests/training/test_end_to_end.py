"""From a dataset to a version that Triton serves, through the command line as a user calls it."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gliogate import Client
from gliogate.contract import MODELS
from gliogate.embedded import EmbeddedServer, find_model_repository
from gliogate.phantom import make_phantom

CHECKOUT = Path(__file__).parents[2]

# Real networks on two cores: a minute or two where nothing else runs.
pytestmark = pytest.mark.timeout(1200)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "training", *map(str, arguments)]


def train(run: Path, data: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("train", run, "--data", data, *arguments), cwd=CHECKOUT, capture_output=True, text=True, check=False
    )


def epochs_logged(run: Path, stage: str) -> list[int]:
    with (run / f"{stage}.csv").open() as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def run(kaggle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch a stage; its networks know little, and everything else about them is as it should be."""
    folder = tmp_path_factory.mktemp("runs") / "short"
    result = train(folder, kaggle, "--epochs", 1)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return Path(shutil.copytree(find_model_repository(None), tmp_path / "repository"))


def test_a_run_is_split_by_patient_and_logged(run: Path) -> None:
    split = json.loads((run / "split.json").read_text())
    assert len(split["training"]) == 4
    assert len(split["validation"]) == 1
    assert not set(split["training"]) & set(split["validation"])
    assert epochs_logged(run, "detector") == epochs_logged(run, "segmenter") == [1]


def test_an_interrupted_training_carries_on_after_its_last_epoch(kaggle: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ("--stages", "segmenter", "--epochs", 3)
    with subprocess.Popen(
        command("train", run, "--data", kaggle, *arguments), cwd=CHECKOUT, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "segmenter: epoch 1 of 3" in line:
                process.send_signal(signal.SIGINT)
                break
        assert "the same command carries on" in process.stderr.read()
    assert process.returncode == 130
    done = epochs_logged(run, "segmenter")
    assert done in ([1], [1, 2])

    result = train(run, kaggle, *arguments)
    assert result.returncode == 0, result.stderr
    assert f"carrying on after epoch {done[-1]} of 3" in result.stderr
    assert epochs_logged(run, "segmenter") == [1, 2, 3]


def test_export_adds_a_version_that_serves_and_changes_no_other(run: Path, kaggle: Path, repository: Path) -> None:
    before = {path.relative_to(repository): path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    versions = [int(path.name) for path in (repository / "brain_tumor").iterdir() if path.is_dir()]
    new = str(max(versions) + 1)

    subprocess.run(command("export", run, "--data", kaggle, "--model-repository", repository), cwd=CHECKOUT, check=True)

    assert {path: (repository / path).read_bytes() for path in before} == before
    assert all((repository / model.name / new).is_dir() for model in MODELS)
    point = json.loads((repository / "brain_tumor" / new / "operating_point.json").read_text())
    assert point["measured_on"]["patients"] == json.loads((run / "split.json").read_text())["validation"]
    with EmbeddedServer(repository) as server, Client(server.url) as client:
        analysis = client.analyze(make_phantom(1, tumor=True).image)
        assert analysis.segmented == (analysis.tumor_probability >= point["detection_threshold"])


def test_evaluate_of_a_repository_that_is_not_there_is_one_clear_line(kaggle: Path, run: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        command("evaluate", run, "--data", kaggle, "--model-repository", tmp_path / "nothing"),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("training: the model repository ")
    assert "Traceback" not in result.stderr


def test_export_of_a_run_that_is_not_there_is_one_clear_line(kaggle: Path, tmp_path: Path, repository: Path) -> None:
    result = subprocess.run(
        command("export", tmp_path / "nothing", "--data", kaggle, "--model-repository", repository),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("training: ")
    assert "no run here (no split.json)" in result.stderr
    assert "Traceback" not in result.stderr
