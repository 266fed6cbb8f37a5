"""What the networks of a run become when it is served."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from training.data import Split, phantoms
from training.models.cost import multiply_adds
from training.networks import network_of, served_networks
from training.predict import predict
from training.recipe import Phase, Recipe, Stage
from training.run import Run

SHIPPED = Path(__file__).parents[2] / "model_repository"
THIN = {"filters": [4, 8, 8], "depths": [1, 1, 1]}
SPLIT = Split(("a", "b"), ("c",))


def stage(*outputs: str) -> Stage:
    losses = dict.fromkeys(outputs, "bce")
    return Stage(network="resunet_multitask", options=THIN, losses=losses, phases=(Phase(epochs=1),))


def trained(folder: Path, **stages: Stage) -> Run:
    """A run whose networks have the weights that they start from."""
    run = Run.create(folder, Recipe(name="several", stages=stages), SPLIT)
    for name, each in stages.items():
        network_of(each, size=None).save(folder / f"{name}.keras")
    return run


def test_where_several_networks_answer_the_same_the_mean_of_their_logits_counts(tmp_path: Path) -> None:
    both = trained(tmp_path / "both", first=stage("tumor", "mask"), second=stage("tumor"))
    images = phantoms(3, prevalence=0.5, seed=1).images

    detector, segmenter = served_networks(both)

    alone = []
    for name in ("first", "second"):
        one = Run.create(tmp_path / name, Recipe(name="one", stages={name: both.recipe.stages[name]}), SPLIT)
        (tmp_path / name / f"{name}.keras").write_bytes(both.weights(name).read_bytes())
        network = network_of(one.recipe.stages[name], size=256)
        network.load_weights(one.weights(name))
        alone.append(network)
    said = [predict(network, images)["tumor"] for network in alone]
    assert not np.allclose(*said, atol=1e-4)
    np.testing.assert_allclose(predict(detector, images), np.mean(said, axis=0), atol=1e-5)
    np.testing.assert_allclose(predict(segmenter, images), predict(alone[0], images)["mask"], atol=1e-5)


def test_each_of_them_costs(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", first=stage("tumor", "mask"))
    two = trained(tmp_path / "two", first=stage("tumor", "mask"), second=stage("tumor"))

    single, double = (multiply_adds(served_networks(run)[0]) for run in (one, two))

    assert double == pytest.approx(2 * single)


def test_of_nearest_neighbours_the_shipped_networks_ask_for_what_every_engine_knows() -> None:
    found = set()
    for path in sorted(SHIPPED.glob("*/*/*.onnx")):
        for node in onnx.load(path, load_external_data=False).graph.node:
            modes = {attribute.name: attribute.s.decode() for attribute in node.attribute}
            assert node.op_type != "Tile"
            if node.op_type == "Resize" and modes["mode"] == "nearest":
                found.add((path.parent.parent.name, modes["coordinate_transformation_mode"], modes["nearest_mode"]))
    assert found == {(model, "asymmetric", "floor") for model in ("tumor_detector", "tumor_segmenter")}
