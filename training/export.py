"""`export`: a run's networks, proven in ONNX and tried as served, become the next version to serve."""

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from gliogate.contract import DETECTOR, ENSEMBLE, MASK_PROBABILITY, SEGMENTER, TUMOR_PROBABILITY, Model
from training import metadata
from training.answers import Answers
from training.calibrate import FILE as OPERATING_POINT
from training.calibrate import Calibration
from training.calibration import PlattScaling
from training.data import Dataset, phantoms
from training.eight_bits import FILE as CPU_FILE
from training.eight_bits import write_for_cpu
from training.errors import ParityError, RunError
from training.files import replacing, write_json
from training.networks import served_networks
from training.onnx_files import TOLERANCE, answer_on_cpu, write_onnx
from training.predict import predict
from training.report.figures import summarize
from training.run import Run
from training.served import ask

logger = logging.getLogger(__name__)

PARITY_SLICES = 64
JUDGED_SLICES = 256
PHANTOMS = 100
PHANTOM_SEED = 7_000
"""A series that no training takes: those start at small seeds."""


def export(run: Run, dataset: Dataset, repository: Path, *, evidence: Path | None = None) -> int:
    """Writes the next version of all three models, and the model card.

    The version is built and served in a copy of the repository; the folders are moved into it last, so that a failure
    leaves the repository as it was.

    Args:
        run: trained and calibrated.
        dataset: slices, some of which the proof takes.
        repository: a Triton model repository.
        evidence: the folder whose `summary.json` says how good it is; the run's own where None, a cross-validation's
            where the run learned from every patient.

    Returns:
        The number of the new version.

    Raises:
        RunError: the run was not trained, calibrated or evaluated, or the repository has no gate to take along.
        ParityError: an ONNX file does not answer as the Keras network, or Triton not as the ONNX files.
    """
    keras.mixed_precision.set_dtype_policy("float32")
    calibration = Calibration.read(run.folder)
    summary = Run.read_json(evidence or run.folder, "summary.json", written_by="evaluate")
    versions = metadata.versions_of(repository)
    if not versions:
        raise RunError(f"{repository}: no version of {ENSEMBLE.name} here, whose gate could go along")
    version = max(versions) + 1
    some, judged = _spread(dataset, PARITY_SLICES), _spread(_strangers(run, dataset), JUDGED_SLICES)

    with tempfile.TemporaryDirectory(dir=repository.resolve().parent, prefix=".export-") as name:
        staging = Path(name) / repository.name
        shutil.copytree(repository, staging)
        folders = {model: _version_folder(staging, model, version) for model in (DETECTOR, SEGMENTER, ENSEMBLE)}
        parity, on_cpu = {}, {}
        for model, network in networks_to_serve(run, calibration).items():
            path = folders[model] / "model.onnx"
            expected = predict(network, some.images)[model.outputs[0].name]
            parity[model.name] = write_onnx(network, path, model, some.images, expected)
            on_cpu[model.name] = write_for_cpu(path, model, some.images, judged, calibration.mask_threshold)
        # The gate's code goes along: a version folder is whole, and never changes.
        for file in (staging / ENSEMBLE.name / str(max(versions))).glob("*.py"):
            shutil.copy(file, folders[ENSEMBLE])
        calibration.write(folders[ENSEMBLE])

        synthetic = phantoms(PHANTOMS, prevalence=0.35, seed=PHANTOM_SEED)
        served, on_phantoms = ask(staging, some, synthetic)
        probability, masks = (answer_on_cpu(folders[model] / CPU_FILE, some.images) for model in (DETECTOR, SEGMENTER))
        allowed = [max(TOLERANCE, on_cpu[model.name].served_difference) for model in (DETECTOR, SEGMENTER)]
        _check_served(served, probability[:, 0], masks, calibration.mask_threshold, *allowed)
        measured = {
            "held_out": {key: value for key, value in summary.items() if key != "folds"},
            "folds": [_headline(fold) for fold in summary.get("folds", [])],
            "phantoms": _headline(
                summarize(synthetic, on_phantoms, threshold=calibration.point.detection_threshold, resamples=1)
            ),
        }
        point = json.loads((folders[ENSEMBLE] / OPERATING_POINT).read_text())
        described = metadata.describe(
            run, version=version, operating_point=point, parity=parity, on_cpu=on_cpu, metrics=measured
        )
        described["sha256"] = metadata.hashes(staging, version)
        write_json(folders[ENSEMBLE] / metadata.FILE, described)
        card = metadata.card(described)

        # The networks first: what has no gate is no version, to us and to a server that watches the repository.
        for folder in folders.values():
            target = repository / folder.relative_to(staging)
            shutil.rmtree(target, ignore_errors=True)
            folder.rename(target)
    with replacing(repository / metadata.CARD) as partial:
        partial.write_text(card)
    logger.info("version %d is in %s", version, repository)
    return version


def networks_to_serve(run: Run, calibration: Calibration) -> dict[Model, keras.Model]:
    """A run's detector and segmenter, giving probabilities under the contract's names."""
    return giving_probabilities(*served_networks(run), calibration.scaling)


def giving_probabilities(
    detector: keras.Model, segmenter: keras.Model, scaling: PlattScaling
) -> dict[Model, keras.Model]:
    """Networks that give logits, made to give probabilities under the contract's names."""
    tumor = keras.layers.Rescaling(scaling.slope, scaling.offset, name="platt_scaling")(detector.output)
    tumor = keras.layers.Activation("sigmoid")(tumor)
    mask = keras.layers.Activation("sigmoid")(segmenter.output)
    return {
        DETECTOR: keras.Model(detector.input, {TUMOR_PROBABILITY.name: tumor}),
        SEGMENTER: keras.Model(segmenter.input, {MASK_PROBABILITY.name: mask}),
    }


def _strangers(run: Run, dataset: Dataset) -> Dataset:
    """The slices of patients that the run did not learn from; all, where it learned from everybody."""
    return dataset.of(run.split.validation) if run.split.validation else dataset


def _spread(dataset: Dataset, slices: int) -> Dataset:
    return dataset.at(np.linspace(0, len(dataset) - 1, min(slices, len(dataset))).astype(int))


def _check_served(
    served: Answers,
    probability: NDArray[np.float32],
    masks: NDArray[np.float32],
    mask_threshold: float,
    allowed: float,
    allowed_in_masks: float,
) -> None:
    """Holds what Triton answers on a CPU against what the same files answer in this process.

    In 8 bits an answer depends a little on the batch that the slice is in: in the last of its 24 bits a value before
    the first rounding does, and then it may be rounded to the next step.

    Args:
        served: of N slices.
        probability: of tumor, shape (N,).
        masks: probabilities, shape (N, 256, 256).
        mask_threshold: mask probability from which a pixel is tumor.
        allowed: how far a tumor probability may be off; no further than rounding took it.
        allowed_in_masks: the same of a pixel's.

    Raises:
        ParityError: a probability is further off, or a pixel whose probability is not that close to the threshold is
            on the other side of it.
    """
    difference = float(np.abs(served.probability - probability).max())
    distance = np.abs(masks - mask_threshold)
    wrong = int(np.count_nonzero((served.masks != (masks >= mask_threshold)) & (distance > allowed_in_masks)))
    told = f"as served, tumor probabilities differ by at most {difference:.1e}, and {wrong} pixels do"
    logger.info("%s", told)
    if difference > allowed or wrong:
        raise ParityError(told)


def _headline(summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "slices": summary["slices"],
        "auc": summary["detector"]["auc"],
        "sensitivity": summary["detector"]["sensitivity"],
        "specificity": summary["detector"]["specificity"],
        "volume_dice_mean": summary["through_gate"]["volume_dice_mean"],
        "volume_dice_median": summary["through_gate"]["volume_dice_median"],
        "tumor_slice_dice_mean": summary["through_gate"]["tumor_slice_dice_mean"],
    }


def _version_folder(repository: Path, model: Model, version: int) -> Path:
    """A new folder for a version; what an export that died left under this number goes."""
    folder = repository / model.name / str(version)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
