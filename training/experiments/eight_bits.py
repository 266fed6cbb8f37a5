"""`python -m training.experiments.eight_bits --crossvalidation RUN --data kaggle_3m`: what rounding to 8 bits costs.

The networks of each fold are written as `export` writes them, in full precision and in 8 bits, and both answer about
the patients that they did not learn from. Writes `build/eight_bits/eight_bits.md`.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.progress import track

from gliogate.contract import DETECTOR, SEGMENTER
from reports.frame import number
from training.answers import Answers
from training.calibrate import Calibration
from training.data import Dataset, read_kaggle
from training.eight_bits import FILE as CPU_FILE
from training.eight_bits import round_to_8_bits
from training.evaluate import folds_of
from training.experiments.courses import Column, Summary, write_table
from training.export import networks_to_serve
from training.joined import joined
from training.onnx_files import answer, answer_on_cpu, write_onnx
from training.predict import predict
from training.report.figures import summarize
from training.run import Run

FOLDER = Path("build/eight_bits")
CALIBRATION_SLICES = 64

TABLE: dict[str, Column] = {
    "AUC": lambda s: number(s["detector"]["auc"], 4),
    "sensitivity": lambda s: number(s["detector"]["sensitivity"], 4),
    "specificity": lambda s: number(s["detector"]["specificity"], 4),
    "calibration error": lambda s: number(s["detector"]["calibration_error"], 4),
    "Dice through the gate, mean": lambda s: number(s["through_gate"]["volume_dice_mean"], 4),
    "median": lambda s: number(s["through_gate"]["volume_dice_median"], 4),
    "of tumor slices": lambda s: number(s["through_gate"]["tumor_slice_dice_mean"], 4),
}


def main() -> None:
    """Writes the networks of each fold, asks both kinds, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crossvalidation", type=Path, required=True, metavar="RUN", help="trained and calibrated")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the Kaggle download, unpacked")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep decoded slices here, to start faster")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR", help="default: %(default)s")
    arguments = parser.parse_args()
    keras.mixed_precision.set_dtype_policy("float32")
    dataset = read_kaggle(arguments.data, cache=arguments.cache)
    calibration = Calibration.read(arguments.crossvalidation)
    runs = folds_of(arguments.crossvalidation)
    patients, answers = [], []
    for run in track(runs, "folds", console=Console(stderr=True), transient=True):
        patients.append(dataset.of(run.split.validation))
        answers.append(_answers(run, calibration, dataset, patients[-1]))
    everybody = joined(patients)
    rows: dict[str, Summary] = {}
    for name, of_folds in zip(("in 32 bits", "in 8 bits"), zip(*answers, strict=True), strict=True):
        threshold = calibration.point.detection_threshold
        rows[name] = summarize(everybody, joined(of_folds), threshold=threshold, resamples=1)
    write_table(arguments.output / "eight_bits.md", rows, TABLE)


def _answers(run: Run, calibration: Calibration, dataset: Dataset, patients: Dataset) -> tuple[Answers, Answers]:
    """What both kinds of a fold's networks say of its patients."""
    learned_from = dataset.of(run.split.training)
    some = learned_from.at(np.linspace(0, len(learned_from) - 1, CALIBRATION_SLICES).astype(int)).images
    said = {}
    with tempfile.TemporaryDirectory() as folder:
        for model, network in networks_to_serve(run, calibration).items():
            exact = Path(folder) / model.name / "1" / "model.onnx"
            exact.parent.mkdir(parents=True)
            write_onnx(network, exact, model, some, predict(network, some)[model.outputs[0].name])
            rounded = exact.with_name(CPU_FILE)
            round_to_8_bits(exact, rounded, some)
            said[model] = [answer(exact, patients.images), answer_on_cpu(rounded, patients.images)]
    return tuple(  # type: ignore[return-value]
        Answers.gated(
            probability[:, 0],
            (masks >= calibration.mask_threshold).astype(np.uint8),
            threshold=calibration.point.detection_threshold,
        )
        for probability, masks in zip(said[DETECTOR], said[SEGMENTER], strict=True)
    )


if __name__ == "__main__":
    main()
