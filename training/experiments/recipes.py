"""`python -m training.experiments.recipes --data kaggle_3m`: every recipe in one table, trained on the same patients.

Without an accelerator the courses are cut to what two cores do in minutes: they show that a recipe learns, not how far
it would get. `--full` takes them as the recipes have them. The patients are those of a cross-validation's first fold,
so that its run can be laid into `build/recipes/flagship`; runs are kept there and carried on. Milliseconds are those of
`training.experiments.costs`. Writes `build/recipes/recipes.md`.
"""

import argparse
from pathlib import Path

from reports.frame import number
from training.crossvalidate import FOLDS
from training.data import fold_splits, read_kaggle
from training.experiments.costs import measured
from training.experiments.courses import COLUMNS, Summary, judged, write_table
from training.recipes import find

FOLDER = Path("build/recipes")

SHORT: dict[str, list[str]] = {
    "flagship": [],
    "resunet-multitask": [],
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
    "ms a gated slice": lambda s: number(s["ms"], 1),
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
    costs = measured([find(name) for name in rows])
    for name, summary in rows.items():
        summary["ms"] = costs[name].gated_ms
    write_table(arguments.output / "recipes.md", rows, TABLE)


if __name__ == "__main__":
    main()
