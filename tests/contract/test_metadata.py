"""What the shipped version says of itself, against its files."""

import json
from pathlib import Path

import pytest

from gliogate.contract import ENSEMBLE, MODELS, SLICES, VOLUME, Model
from training import metadata

REPOSITORY = Path(__file__).parents[2] / "model_repository"
VERSION, SHIPPED = metadata.newest_metadata(REPOSITORY)


def test_it_has_files_of_every_model() -> None:
    assert {Path(path).parts[0] for path in SHIPPED["sha256"]} == {model.name for model in MODELS}


@pytest.mark.parametrize(
    ("model", "key"), [(ENSEMBLE, "operating_point"), (VOLUME, "operating_point_of_heads")], ids=str
)
def test_the_operating_point_is_the_gates(model: Model, key: str) -> None:
    path = REPOSITORY / model.name / str(VERSION) / "operating_point.json"
    assert SHIPPED[key] == json.loads(path.read_text())


def test_every_patients_counts_are_beside_it() -> None:
    counted = metadata.patients_of(REPOSITORY, VERSION, SHIPPED)
    held_out = SHIPPED["metrics"]["held_out"]["patients"]
    assert [case["patient"] for case in counted["slices"]] == [case["patient"] for case in counted["heads"]] == held_out


def test_its_tensors_are_the_contracts() -> None:
    assert SHIPPED["tensors"] == metadata.tensors()
    told = {(t["model"], t["direction"], t["name"], t["dtype"], *t["shape"]) for t in SHIPPED["tensors"]}
    assert told == {
        (model.name, direction, tensor.name, tensor.dtype, *first, *(size for size in tensor.shape if size != SLICES))
        for model in MODELS
        for direction, tensors in (("in", model.inputs), ("out", model.outputs))
        for tensor in tensors
        for first in [["slices"] if SLICES in tensor.shape else [] if model is VOLUME else ["batch"]]
    }


def test_nobody_was_learned_from_and_judged_on() -> None:
    data = SHIPPED["data"]
    assert not set(data["training_patients"]) & set(data["validation_patients"])
    if data["validation_patients"]:
        assert SHIPPED["metrics"]["held_out"]["patients"] == data["validation_patients"]


def test_the_model_card_is_made_from_it() -> None:
    assert (REPOSITORY / metadata.CARD).read_text() == metadata.card(SHIPPED)
