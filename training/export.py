"""`export`: a run's networks, proven in ONNX and measured as served, become the next version to serve."""

import json
import logging
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np

from gliogate.contract import DETECTOR, ENSEMBLE, MASK_PROBABILITY, SEGMENTER, SLICE_SIZE, TUMOR_PROBABILITY, Model
from training.calibration import PlattScaling, detection_threshold
from training.data import read_kaggle
from training.evaluate import measure, show
from training.models import resnet50_detector, resunet_segmenter
from training.onnx_files import answer, write_onnx
from training.predict import predict
from training.run import Run

logger = logging.getLogger(__name__)

PARITY_SLICES = 64
GATE_FILES = ("gating.py", "model.py")


def export(folder: Path, data: Path, repository: Path) -> int:
    """Writes the next version of all three models.

    The version is built and measured in a copy of the repository; the folders are moved into it last, so that a failure
    leaves the repository as it was.

    Returns:
        The number of the new version.

    Raises:
        DataError: the run, a trained network or the dataset is not there.
        ParityError: an ONNX file does not answer as its Keras network.
    """
    keras.mixed_precision.set_dtype_policy("float32")
    run = Run.open(folder)
    validation = read_kaggle(data).of(run.validation)
    some = validation.images[np.linspace(0, len(validation) - 1, PARITY_SLICES).astype(int)]

    with tempfile.TemporaryDirectory(dir=repository.resolve().parent, prefix=".export-") as name:
        staging = Path(name) / repository.name
        shutil.copytree(repository, staging)
        newest = _newest_version(staging)
        version = newest + 1
        detector, segmenter, gate = (_version_folder(staging, m, version) for m in (DETECTOR, SEGMENTER, ENSEMBLE))

        write_onnx(_load_segmenter(run.checkpoint("segmenter")), segmenter / "model.onnx", SEGMENTER, some)
        logits = predict(_load_detector(run.checkpoint("detector"), None), validation.images)
        scaling = PlattScaling.fit(logits[TUMOR_PROBABILITY.name][:, 0], validation.tumor)
        write_onnx(_load_detector(run.checkpoint("detector"), scaling), detector / "model.onnx", DETECTOR, some)
        threshold = detection_threshold(answer(detector / "model.onnx", validation.images)[:, 0], validation.tumor)
        point = {"detection_threshold": threshold, "mask_threshold": 0.5}
        # The gate's code goes along: a version folder is whole, and never changes.
        for name in GATE_FILES:
            shutil.copy(staging / ENSEMBLE.name / str(newest) / name, gate / name)
        _write_json(gate / "operating_point.json", point | {"measured_on": {}})
        summary = measure(staging, validation)
        show(summary)
        _write_json(gate / "operating_point.json", point | {"measured_on": summary})

        # The networks first: a server that watches the repository must not meet a gate without them.
        for part in (detector, segmenter, gate):
            part.rename(repository / part.relative_to(staging))
    logger.info("version %d is in %s", version, repository)
    return version


def _load_detector(checkpoint: Path, scaling: PlattScaling | None) -> keras.Model:
    """The detector, giving its logit, or with a scaling its calibrated probability."""
    network = resnet50_detector()
    network.load_weights(checkpoint)
    output = network.output["tumor"]
    if scaling is not None:
        output = keras.layers.Rescaling(scaling.slope, scaling.offset)(output)
        output = keras.layers.Activation("sigmoid")(output)
    return keras.Model(network.input, {TUMOR_PROBABILITY.name: output})


def _load_segmenter(checkpoint: Path) -> keras.Model:
    network = resunet_segmenter(size=SLICE_SIZE)
    network.load_weights(checkpoint)
    return keras.Model(network.input, {MASK_PROBABILITY.name: keras.layers.Activation("sigmoid")(network.output)})


def _newest_version(repository: Path) -> int:
    """The highest version that any of the models has: the three move together."""
    return max(int(path.name) for path in repository.glob("*/*") if path.is_dir() and path.name.isdecimal())


def _version_folder(repository: Path, model: Model, version: int) -> Path:
    folder = repository / model.name / str(version)
    folder.mkdir(parents=True)
    return folder


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
