"""From a dataset to a version that Triton serves, through the command line: the flagship, on a thin network.

`test_recipes.py` does the same with every recipe.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import keras
import pytest
from support.courses import epochs_logged, export, small, thinner, train

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

# A network is trained, exported and served.
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("thin_networks")]


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
