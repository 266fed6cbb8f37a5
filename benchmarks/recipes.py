"""`python -m benchmarks.recipes --data kaggle_3m`: every recipe in one table, trained on the same patients.

Without an accelerator the courses are cut to what two cores do in minutes: they show that a recipe learns, not how far
it would get. `--full` takes them as the recipes have them. The patients are those of a cross-validation's first fold,
so that its run can be laid into `build/recipes/flagship`; runs are kept there and carried on. Milliseconds are of the
exported networks on this machine, in turns. Writes `build/recipes/recipes.md`.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import onnxruntime
from rich.console import Console
from rich.progress import track

from benchmarks.courses import COLUMNS, Summary, judged, write_table
from gliogate.contract import IMAGE
from training.calibrate import Calibration
from training.crossvalidate import FOLDS
from training.data import Dataset, fold_splits, read_kaggle
from training.export import networks_to_serve
from training.onnx_files import write_onnx
from training.predict import predict
from training.recipes import find
from training.report.frame import number
from training.run import Run

FOLDER = Path("build/recipes")
PREVALENCE = 0.35
BATCH = 16
ROUNDS = 7

SHORT: dict[str, list[str]] = {
    "flagship": [],
    "resnet50-resunet": [
        'stages.detector.phases=[{"epochs": 6, "scale": 0.5}, {"epochs": 1}]',
        'stages.segmenter.phases=[{"epochs": 6, "scale": 0.5}, {"epochs": 1}]',
    ],
    "resnet50-unet": ['stages.segmenter.phases=[{"epochs": 5, "scale": 0.5}, {"epochs": 1}]'],
    "mobilenetv2-unet": ['stages.detector.phases=[{"epochs": 5}]', 'stages.segmenter.phases=[{"epochs": 5}]'],
}
SHORT["clahe-resnet50-resunet"] = SHORT["resnet50-resunet"]
"""What is changed of each recipe for a short course. A network that saw half the size only is lost at the full one, so
each ends at that."""

TABLE = COLUMNS | {
    "Dice through the gate": lambda s: number(s["through_gate"]["volume_dice_mean"]),
    "parameters": lambda s: f"{s['parameters'] / 1e6:.1f} M",
    "ms a slice": lambda s: number(s["ms"], 1),
}


def main() -> None:
    """Trains what was not trained yet, times the networks, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the Kaggle download, unpacked")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep decoded slices here, to start faster")
    parser.add_argument("--mobilenet", metavar="WEIGHTS", help="MobileNetV2's ImageNet weights: a file, or `imagenet`")
    parser.add_argument("--full", action="store_true", help="train each recipe to its end")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR", help="default: %(default)s")
    arguments = parser.parse_args()
    dataset = read_kaggle(arguments.data, cache=arguments.cache)
    split = fold_splits(dataset, folds=FOLDS)[0]
    rows: dict[str, Summary] = {}
    for name in SHORT:
        recipe = find(name).with_changes([] if arguments.full else SHORT[name])
        if arguments.mobilenet and any(stage.network.startswith("mobilenetv2") for stage in recipe.stages.values()):
            recipe = recipe.with_weights(arguments.mobilenet)
        rows[name] = judged(arguments.output / name, recipe, split, dataset)
    for name, ms in milliseconds({name: arguments.output / name for name in rows}, dataset).items():
        rows[name]["ms"] = ms
    write_table(arguments.output / "recipes.md", rows, TABLE)


def milliseconds(runs: Mapping[str, Path], dataset: Dataset) -> dict[str, float]:
    """What a slice costs in each run's exported networks: the detector, and 35% of the segmenter.

    Args:
        runs: their folders, by name; trained and calibrated.
        dataset: whose first slices are shown, in batches of 16.
    """
    some = dataset.at(np.arange(BATCH))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with tempfile.TemporaryDirectory() as folder:
        engines = {name: _engines(Run.open(run), Path(folder) / name, some) for name, run in runs.items()}
        for _ in track(range(ROUNDS), "timing", console=Console(stderr=True), transient=True):
            for name, (detector, segmenter) in engines.items():
                seconds[name].append(_seconds(detector, some) + PREVALENCE * _seconds(segmenter, some))
    return {name: 1000 * statistics.median(taken) / BATCH for name, taken in seconds.items()}


def _engines(run: Run, folder: Path, some: Dataset) -> list[onnxruntime.InferenceSession]:
    keras.mixed_precision.set_dtype_policy("float32")
    sessions = []
    for model, network in networks_to_serve(run, Calibration.read(run.folder)).items():
        path = folder / model.name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        write_onnx(network, path, model, some.images, predict(network, some.images)[model.outputs[0].name])
        sessions.append(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))
        sessions[-1].run(None, {IMAGE.name: some.images})
    return sessions


def _seconds(session: onnxruntime.InferenceSession, some: Dataset) -> float:
    start = time.perf_counter()
    session.run(None, {IMAGE.name: some.images})
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
