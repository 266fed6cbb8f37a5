"""Every recipe learns, and what becomes of its networks answers as they do.

On thin networks each takes a step, and its networks are proven in ONNX. The slow test does all that there
is with the networks that the recipes really have: it trains, evaluates, and exports them as Triton then serves them.
That the networks of each learn from more than two steps is in docs/training.md.
"""

import json
from pathlib import Path

import onnx
import pytest
from support.calibrations import made_up
from support.courses import changes, export, few_slices, small, train
from support.thin_networks import use_thin_networks

from training.data import Split, read_kaggle
from training.export import networks_to_serve
from training.graphs import in_16_bits
from training.metadata import newest_metadata
from training.onnx_files import TOLERANCE, write_onnx
from training.predict import predict
from training.recipes import find, names
from training.run import Run
from training.tensorrt import refusals
from training.train import train as train_stages

pytestmark = pytest.mark.usefixtures("precision_as_it_was")

SPLIT = Split(("TCGA_DU_0002", "TCGA_FG_0004"), ("TCGA_DU_0003",))


# One differs from another by CLAHE alone, which `models/test_clahe.py` proves in ONNX; one has the deepest of networks.
LONG = {"clahe-resnet50-resunet", "resunet-multitask"}


@pytest.mark.usefixtures("step_by_step")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in names()]
)
def test_it_takes_a_step_and_its_networks_are_proven(
    name: str, kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_thin_networks(monkeypatch)
    recipe = find(name).with_epochs(1).with_changes(changes(name))
    dataset = read_kaggle(kaggle)
    images = dataset.of(SPLIT.validation).images[:8]
    run = Run.create(tmp_path / "run", recipe, SPLIT)

    train_stages(run, dataset)

    assert caplog.text.count("starts from nothing") == len(recipe.pretrainable)
    for model, network in networks_to_serve(run, made_up(SPLIT.validation)).items():
        path = tmp_path / f"{model.name}.onnx"
        expected = predict(network, images)[model.outputs[0].name]
        assert expected.std() > 0
        assert write_onnx(network, path, model, images, expected) <= TOLERANCE
        assert refusals(in_16_bits(onnx.load(path))) == []


@pytest.mark.slow  # A minute or two each where nothing else runs.
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", names())
def test_it_trains_is_evaluated_and_exported_as_served(
    name: str, kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    few_slices(monkeypatch)
    repository, run = tmp_path / "repository", tmp_path / "run"

    assert train(run, kaggle, *small(name)) == 0
    assert json.loads((run / "summary.json").read_text())["slices"] > 0
    assert caplog.text.count("starts from nothing") == len(find(name).pretrainable)
    # What is exported was held against what Triton answers, or this would fail.
    assert export(run, kaggle, repository) == 0
    assert newest_metadata(repository)[1]["recipe"]["name"] == name
