"""`python -m training.experiments.ablations --data kaggle_3m`: what each choice is worth, and what a leak pretends.

`resunet_multitask` at a fifth of its arithmetic, a short course, the same split by patient; each row differs from the
first in one choice, the last in two. The last rows are split by slice, as many notebooks do: neighbouring slices of a
patient are on both sides. Runs are kept in `build/ablations` and carried on. Writes `build/ablations/ablations.md`.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from training.data import Dataset, holdout_split, read_kaggle
from training.experiments.courses import Summary, judged, write_table
from training.recipe import Phase, Recipe, Stage

FOLDER = Path("build/ablations")
SEED = 0

PLAIN = Recipe(
    name="ablation",
    stages={
        "segmenter": Stage(
            network="resunet_multitask",
            options={"filters": [8, 16, 32, 64, 128], "depths": [1, 1, 1, 1, 1]},
            losses={"mask": "focal_tversky"},
            phases=(Phase(epochs=8, window=128),),
            others=0.0,
        )
    },
)

WHOLE = ['stages.segmenter.phases=[{"epochs": 4}]']

LONG = ['stages.segmenter.phases=[{"epochs": 60, "window": 128}]']
"""A course in which a network gets to know its slices better: a short one has little to gain from a leak."""

CHANGES: dict[str, list[str]] = {
    "Focal Tversky, tumor slices only": [],
    "Tversky": ["stages.segmenter.losses.mask=tversky"],
    "Dice loss": ["stages.segmenter.losses.mask=dice"],
    "BCE": ["stages.segmenter.losses.mask=bce"],
    "Focal Tversky + BCE": ["stages.segmenter.losses.mask=focal_tversky + bce"],
    "no phantoms": ["stages.segmenter.phantoms=0"],
    # As many steps as the others: an epoch shows twice the slices.
    "as many slices without tumor": [
        "stages.segmenter.others=1",
        'stages.segmenter.phases=[{"epochs": 4, "window": 128}]',
    ],
    # Of a window CLAHE makes something else than of the slice: these two are for each other.
    "shown whole slices, half as often": WHOLE,
    "the same, CLAHE before the network": [*WHOLE, "stages.segmenter.options.clahe=true"],
    "60 epochs": LONG,
}

LEAKS: dict[str, list[str]] = {
    "split by slice (leaks patients)": [],
    "split by slice, 60 epochs": LONG,
}


def main() -> None:
    """Trains what was not trained yet, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the Kaggle download, unpacked")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep decoded slices here, to start faster")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR", help="default: %(default)s")
    arguments = parser.parse_args()
    dataset = read_kaggle(arguments.data, cache=arguments.cache)
    rows: dict[str, Summary] = {}
    leaky = by_slice(dataset)
    for name, changes in (CHANGES | LEAKS).items():
        slices = leaky if name in LEAKS else dataset
        rows[name] = _row(arguments.output, name, PLAIN.with_changes(changes), slices)
        write_table(arguments.output / "ablations.md", rows)


def by_slice(dataset: Dataset) -> Dataset:
    """Every slice as a patient of its own: what a split by slice takes them for."""
    return replace(dataset, patients=dataset.names)


def _row(output: Path, name: str, recipe: Recipe, dataset: Dataset) -> Summary:
    split = holdout_split(dataset, validation=recipe.validation, seed=SEED)
    return judged(output / "".join(c if c.isalnum() else "-" for c in name.lower()), recipe, split, dataset)


if __name__ == "__main__":
    main()
