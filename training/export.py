"""`export`: a run's networks, proven in ONNX and tried as served, become the next version to serve."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from gliogate.contract import (
    DETECTOR,
    ENSEMBLE,
    MASK_PROBABILITY,
    SEGMENTER,
    SLICE_SIZE,
    TUMOR_PROBABILITY,
    VOLUME,
    Model,
)
from training import metadata
from training.against_served import hold_against_served
from training.answers import Answers
from training.calibrate import FILE as OPERATING_POINT
from training.calibrate import Calibration
from training.calibration import MaskScaling, PlattScaling
from training.data import Dataset, phantoms
from training.eight_bits import FILE as CPU_FILE
from training.eight_bits import write_for_cpu
from training.errors import ParityError, RunError
from training.files import write_json
from training.levels import Levels
from training.models.calibrated import CalibratedLogits
from training.models.cost import multiply_adds
from training.networks import served_networks
from training.onnx_files import TOLERANCE, answer_on_cpu, write_onnx
from training.predict import predict
from training.report.figures import summarize
from training.rounding import judged_slices
from training.run import Run
from training.served import ask
from training.sixteen_bits import write_for_gpu
from training.versions import next_version

logger = logging.getLogger(__name__)

PARITY_SLICES = 64
PHANTOMS = 100
PHANTOM_SEED = 7_000
"""A series that no training takes: those start at small seeds."""


def export(run: Run, dataset: Dataset, repository: Path, *, evidence: Path | None = None, force: bool = False) -> None:
    """Writes the next version of all models, and the model card; see `next_version`.

    Args:
        run: trained and calibrated.
        dataset: slices, some of which the proof takes.
        repository: a Triton model repository, or where one is to be made.
        evidence: the folder whose `summary.json` says how good it is; the run's own where None, a cross-validation's
            where the run learned from every patient.
        force: whether to write a version that is worse than what is served, or cannot be held against it.

    Raises:
        RunError: the run was not trained, calibrated or evaluated, or the folder is no model repository.
        WorseError: the run is worse than what is served, or cannot be held against it.
        ParityError: an ONNX file does not answer as the Keras network, or Triton not as the ONNX files.
    """
    keras.mixed_precision.set_dtype_policy("float32")
    calibration = Calibration.read(run.folder)
    summary = Run.read_json(evidence or run.folder, "summary.json", written_by="evaluate")
    if "in_heads" not in summary:
        raise RunError("summary.json: says nothing of heads; `python -m training evaluate` writes it anew")
    hold_against_served(summary, dataset, repository, force=force)
    some, judged = dataset.spread(PARITY_SLICES), judged_slices(dataset, run.split.validation)

    with next_version(repository) as version:
        parity, on_cpu, on_gpu = {}, {}, {}
        for model, network in networks_to_serve(run, calibration).items():
            path = version.folder(model) / "model.onnx"
            expected = predict(network, some.images)[model.outputs[0].name]
            parity[model.name] = write_onnx(network, path, model, some.images, expected)
            on_cpu[model.name] = write_for_cpu(path, model, some.images, judged, calibration.mask_threshold)
            on_gpu[model.name] = write_for_gpu(path, model, judged, calibration.mask_threshold)
        write_json(version.folder(ENSEMBLE) / OPERATING_POINT, calibration.for_slices())
        write_json(version.folder(VOLUME) / OPERATING_POINT, calibration.for_heads())

        synthetic = phantoms(PHANTOMS, prevalence=0.35, seed=PHANTOM_SEED)
        served, on_phantoms = ask(version.repository, some, synthetic)
        files = (version.folder(model) / CPU_FILE for model in (DETECTOR, SEGMENTER))
        probability, masks = (answer_on_cpu(file, some.images) for file in files)
        allowed = [max(TOLERANCE, on_cpu[model.name].served_difference) for model in (DETECTOR, SEGMENTER)]
        _check_served(served, probability[:, 0], masks, calibration.mask_threshold, *allowed)
        measured = {
            "held_out": {key: value for key, value in summary.items() if key not in ("folds", "cases", "in_heads")},
            "in_heads": {key: value for key, value in summary["in_heads"].items() if key != "cases"},
            "folds": [_headline(fold) for fold in summary.get("folds", [])],
            "phantoms": _headline(
                summarize(synthetic, on_phantoms, threshold=calibration.point.detection_threshold, resamples=1)
            ),
        }
        version.describe(
            metadata.describe(
                run,
                operating_point=calibration.for_slices(),
                operating_point_of_heads=calibration.for_heads(),
                scaling={"tumor": asdict(calibration.scaling), "mask": asdict(calibration.masks)},
                cost=_cost(run),
                parity=parity,
                on_cpu=on_cpu,
                on_gpu=on_gpu,
                metrics=measured,
            ),
            {"slices": summary["cases"], "heads": summary["in_heads"]["cases"]},
        )


def networks_to_serve(run: Run, calibration: Calibration) -> dict[Model, keras.Model]:
    """A run's detector and segmenter, giving probabilities under the contract's names."""
    detector, segmenter = served_networks(run)
    below = Levels.of(segmenter).below
    return giving_probabilities(detector, segmenter, calibration.scaling, calibration.masks, below=below)


def giving_probabilities(
    detector: keras.Model, segmenter: keras.Model, scaling: PlattScaling, masks: MaskScaling, *, below: float = 1.0
) -> dict[Model, keras.Model]:
    """Networks that give logits, made to give probabilities under the contract's names.

    Args:
        detector: gives (B, 1).
        segmenter: gives (B, 256, 256).
        scaling: of the detector.
        masks: of the segmenter's logits, once they are brought to scale.
        below: see `Levels.below`.
    """
    tumor = keras.layers.Rescaling(scaling.slope, scaling.offset, name="platt_scaling")(detector.output)
    tumor = keras.layers.Activation("sigmoid")(tumor)
    mask = CalibratedLogits(**asdict(masks), below=below, name="mask_scaling")(segmenter.output)
    mask = keras.layers.Activation("sigmoid")(mask)
    return {
        DETECTOR: keras.Model(detector.input, {TUMOR_PROBABILITY.name: tumor}),
        SEGMENTER: keras.Model(segmenter.input, {MASK_PROBABILITY.name: mask}),
    }


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


def _cost(run: Run) -> dict[str, Any]:
    """Of what is served: arithmetic for one slice, and for a gated one where 35% of the slices show tumor."""
    detector, segmenter = served_networks(run)
    arithmetic = {"detector": multiply_adds(detector), "segmenter": multiply_adds(segmenter)}
    return {
        "parameters": {"detector": detector.count_params(), "segmenter": segmenter.count_params()},
        "multiply_adds": arithmetic,
        "multiply_adds_of_a_gated_slice_at_35_percent": round(arithmetic["detector"] + 0.35 * arithmetic["segmenter"]),
        "slice_size": SLICE_SIZE,
    }
