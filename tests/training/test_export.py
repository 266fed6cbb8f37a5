"""An export that fails."""

from pathlib import Path

import keras
import numpy as np
import pytest
from support.calibrations import made_up

from gliogate.contract import DETECTOR, ENSEMBLE, IMAGE, MODELS, SEGMENTER, Model
from training.data import Split, phantoms
from training.errors import ParityError
from training.export import export
from training.files import write_json
from training.recipes import find
from training.run import Run


def tiny(*_: object) -> dict[Model, keras.Model]:
    """A detector and a segmenter that do next to nothing."""
    image = keras.Input(IMAGE.shape, dtype="uint8", name=IMAGE.name)
    scaled = keras.layers.Rescaling(1 / 255)(image)
    mean = keras.layers.Dense(1, activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(scaled))
    mask = keras.layers.Reshape(IMAGE.shape[:2])(keras.layers.Conv2D(1, 1, activation="sigmoid")(scaled))
    answers = {DETECTOR: mean, SEGMENTER: mask}
    return {model: keras.Model(image, {model.outputs[0].name: answer}) for model, answer in answers.items()}


def test_a_failed_proof_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = phantoms(4, prevalence=0.5, seed=1)
    run = Run.create(tmp_path / "run", find("flagship"), Split(("a",), tuple(np.unique(dataset.patients).tolist())))
    made_up(run.split.validation).write(run.folder)
    write_json(run.folder / "summary.json", {"cases": [], "in_heads": {"cases": []}})
    repository = tmp_path / "repository"
    for model in MODELS:
        (repository / model.name / "1").mkdir(parents=True)
    (repository / ENSEMBLE.name / "1" / "model.py").write_text("")
    before = sorted(tmp_path.rglob("*"))

    monkeypatch.setattr("training.export.networks_to_serve", tiny)
    monkeypatch.setattr("training.onnx_files.TOLERANCE", -1.0)
    with pytest.raises(ParityError, match="weights in 32 bits differ from Keras by at most"):
        export(run, dataset, repository, force=True)
    assert sorted(tmp_path.rglob("*")) == before
