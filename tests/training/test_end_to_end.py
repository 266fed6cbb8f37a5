"""From a dataset to a version that Triton serves, through the command line: the flagship, on a thin network.

`test_recipes.py` does the same with every recipe.
"""

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from support.courses import export, few_slices, small, thinner, train
from support.thin_networks import use_thin_networks

from gliogate import Client
from gliogate.contract import MODELS
from gliogate.embedded import EmbeddedServer, find_model_repository
from gliogate.phantom import make_phantom
from training.__main__ import main
from training.calibrate import Calibration
from training.metadata import hashes, newest_metadata, versions_of
from training.networks import logits_of
from training.onnx_files import answer_on_cpu
from training.run import Run

CHECKOUT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.timeout(1200),
    # It is said of data that TensorFlow prepares, which it does not here.
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly` option"),
]

THIN = (
    "--recipe", "resunet-multitask",
    "--stages", "multitask",
    "--set", 'stages.multitask.options={"filters": [4, 8, 8], "depths": [1, 1, 1]}',
    "--set", 'stages.multitask.losses={"tumor": "bce", "mask": "bce"}',
    "--set", "stages.multitask.phases.0.window=64",
)  # fmt: skip
"""What stops a training is the same with any network: this one is as small as they get."""


@pytest.fixture(scope="module", autouse=True)
def as_it_was() -> Iterator[None]:
    """Thin networks, and few slices; training sets the precision of this process, and the tests after it get theirs."""
    before = keras.mixed_precision.dtype_policy()
    with pytest.MonkeyPatch.context() as patch:
        few_slices(patch)
        use_thin_networks(patch)
        yield
    keras.mixed_precision.set_dtype_policy(before)


@pytest.fixture
def step_by_step() -> Iterator[None]:
    """TensorFlow does what it is told without tracing it into a graph first, which takes longer than a few steps."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def epochs_logged(run: Path, stage: str) -> list[int]:
    """Numbers of the epochs in a stage's log, from 1."""
    with (run / f"{stage}.csv").open() as file:
        return [int(row["epoch"]) + 1 for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(kaggle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch of the flagship on small windows: it knows little, and everything else is as it should be."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    assert train(run, kaggle, *small("flagship"), *thinner("flagship")) == 0
    return run


def copy_of_the_repository(folder: Path) -> Path:
    return Path(shutil.copytree(find_model_repository(None), folder / "repository"))


@dataclass(frozen=True)
class Exported:
    """A repository, what its files were before, and the version that an export added."""

    repository: Path
    before: dict[Path, bytes]
    version: int


@pytest.fixture(scope="module")
def exported(trained: Path, kaggle: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    repository = copy_of_the_repository(tmp_path_factory.mktemp("exported"))
    before = {path: path.read_bytes() for path in repository.glob("*/*/*") if path.is_file()}
    version = max(versions_of(repository)) + 1
    # What an export leaves that died between two of its last steps.
    (repository / "tumor_detector" / str(version)).mkdir()
    (repository / "tumor_detector" / str(version) / "model.onnx").write_bytes(b"half")
    # It knows little, and would be refused.
    assert export(trained, kaggle, repository, "--force") == 0
    return Exported(repository, before, version)


def test_a_run_is_a_folder_that_explains_itself(trained: Path) -> None:
    split = json.loads((trained / "split.json").read_text())
    assert (len(split["training"]), len(split["validation"])) == (4, 1)
    assert not set(split["training"]) & set(split["validation"])
    assert json.loads((trained / "recipe.json").read_text())["stages"]["multitask"]["phases"][0]["window"] == 64
    environment = json.loads((trained / "environment.json").read_text())
    assert environment["backend"] == keras.backend.backend()
    assert epochs_logged(trained, "multitask") == [1]
    assert list((trained / "tensorboard" / "multitask").rglob("events.out.*"))
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["patients"] == split["validation"]
    assert "research use" in (trained / "report.html").read_text().lower()


def test_the_commands_that_only_look(trained: Path, kaggle: Path, tmp_path: Path) -> None:
    assert main(["explore", "--data", str(kaggle), "--output", str(tmp_path / "explored")]) == 0
    assert json.loads((tmp_path / "explored" / "explore.json").read_text())["slices"] == 60
    assert main(["compare", str(trained), str(trained), "--output", str(tmp_path / "compared.md")]) == 0
    assert (tmp_path / "compared.md").read_text().count("flagship") >= 2


def test_export_adds_a_whole_version_and_changes_no_other(trained: Path, exported: Exported) -> None:
    repository, new = exported.repository, exported.version
    assert {path: path.read_bytes() for path in exported.before} == exported.before
    version, metadata = newest_metadata(repository)
    assert version == metadata["version"] == new
    assert metadata["sha256"] == hashes(repository, new)
    files = [path for model in MODELS for path in (repository / model.name / str(new)).iterdir()]
    assert len(metadata["sha256"]) == len(files) - 1
    assert f"version {new}" in (repository / "MODEL_CARD.md").read_text()
    with EmbeddedServer(repository) as server, Client(server.url) as client:
        phantom = make_phantom(1, tumor=True).image
        analysis = client.analyze(phantom)
    served = answer_on_cpu(repository / "tumor_detector" / str(new) / "model_cpu.onnx", phantom[None])[0, 0]
    assert analysis.tumor_probability == pytest.approx(served, abs=1e-6)
    assert analysis.segmented == (served >= Calibration.read(trained).point.detection_threshold)
    # In 8 bits it is not quite what the network says that was trained.
    [exact] = Calibration.read(trained).answers(logits_of(Run.open(trained), phantom[None])).probability
    assert served == pytest.approx(exact, abs=0.1)


def test_what_is_served_is_judged_on_strangers_only(
    trained: Path, exported: Exported, kaggle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "evaluation"
    assert main(["evaluate", str(exported.repository), "--data", str(kaggle), "--output", str(output)]) == 0
    summary = json.loads((output / "summary.json").read_text())
    assert summary["patients"] == json.loads((trained / "split.json").read_text())["validation"]
    assert summary["version"] == exported.version
    assert "volume dice mean" in capsys.readouterr().out


@pytest.mark.usefixtures("step_by_step")
def test_crossvalidation_of_the_flagship_judges_every_patient_and_vouches_for_a_run_on_all(
    kaggle: Path, tmp_path: Path
) -> None:
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
    assert metadata["recipe"]["name"] == "flagship"
    assert len(metadata["data"]["training_patients"]) == 5
    assert len(metadata["metrics"]["folds"]) == 2
    assert "Cross-validation in 2 folds" in (repository / "MODEL_CARD.md").read_text()


@pytest.mark.usefixtures("step_by_step")
def test_an_interrupted_training_carries_on_after_its_last_epoch(kaggle: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    choices = ["--epochs", "4", *THIN, "--set", "stages.multitask.phases.1.window=64"]
    command = [sys.executable, "-m", "training", "train", run, "--data", kaggle, *choices]
    with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "multitask: epoch 1 of 4" in line:
                process.send_signal(signal.SIGINT)
                break
        assert "the same command carries on" in process.stderr.read()
    assert process.returncode == 130
    done = epochs_logged(run, "multitask")
    assert done in ([1], [1, 2])
    assert not (run / "multitask.keras").exists()

    assert train(run, kaggle, *choices) == 0
    assert epochs_logged(run, "multitask") == [1, 2, 3, 4]


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "{tmp}/nothing"], "no run here (no recipe.json)"),
        (["export", "{tmp}/nothing"], "no run here (no recipe.json)"),
        (["calibrate", "{tmp}/nothing"], "no run here (no recipe.json)"),
        (["export", "{run}", "--model-repository", "{tmp}"], "no version of brain_tumor here"),
        (["export", "{run}", "--crossvalidation", "{tmp}"], "no cross-validation here"),
        (
            ["train", "{run}", "--recipe", "mobilenetv2-unet"],
            "name flagship (asked for: mobilenetv2-unet), ",
        ),
        (["train", "{tmp}/new", "--recipe", "vgg16"], "no recipe 'vgg16'"),
        (["train", "{tmp}/new", "--stages", "segmenter"], "no stage segmenter; it has multitask"),
        (["train", "{tmp}/new", "--set", "stages.multitask.lr=1"], "no key 'stages.multitask.lr'"),
        (["train", "{tmp}/new", "--split", "{tmp}/leaky.json"], "TCGA_CS_0001 on both sides"),
        (["train", "{tmp}/new", "--split", "{tmp}/unknown.json"], "validation names TCGA_XX_9999, not in the dataset"),
        (["crossvalidate", "{tmp}/new", "--folds", "9"], "9 folds of 5 patients; 2 to 5 are possible"),
    ],
)
def test_a_mistake_is_one_clear_line(
    arguments: list[str],
    message: str,
    trained: Path,
    kaggle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "leaky.json").write_text('{"training": ["TCGA_CS_0001"], "validation": ["TCGA_CS_0001"]}')
    (tmp_path / "unknown.json").write_text('{"training": ["TCGA_CS_0001"], "validation": ["TCGA_XX_9999"]}')
    filled = [argument.format(tmp=tmp_path, run=trained) for argument in arguments]
    assert main([*filled, "--data", str(kaggle)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("training: ")
    assert message in error
    assert "Traceback" not in error
