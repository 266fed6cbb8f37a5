"""`python -m training`: from a dataset to a version that is served.

A run is a folder. A command that was interrupted carries on when it is given again.
"""

import argparse
import logging
import sys
from importlib import import_module
from pathlib import Path

from gliogate import GliogateError
from training.errors import TrainingError
from training.quiet import import_keras
from training.recipes import DEFAULT, names


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = make_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("training").setLevel(logging.INFO)
    # Modules are imported where they are called, since TensorFlow alone takes seconds.
    try:
        if arguments.command == "explore":
            import_module("training.explore").explore(arguments.data, arguments.output)
            print(arguments.output / "explore.html")
        elif arguments.command == "compare":
            import_module("training.compare").compare(arguments.runs, arguments.output)
        elif arguments.command == "update":
            import_keras()
            import_module("training.update").update(
                arguments.model_repository,
                dataset=arguments.data and import_module("training.data").read_kaggle(arguments.data),
                released=arguments.released,
                force=arguments.force,
            )
        else:
            import_keras()
            getattr(import_module("training.commands"), arguments.command)(arguments)
    except (TrainingError, GliogateError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ntraining: interrupted; the same command carries on", file=sys.stderr)
        return 130
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line of `python -m training`."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    explore = commands.add_parser("explore", help="what is in a dataset, and what is wrong with it: a page and JSON")
    _add_data(explore)
    explore.add_argument(
        "--output", type=Path, default=Path("build/explore"), metavar="DIR", help="default: %(default)s"
    )

    train = commands.add_parser("train", help="train a recipe's networks, calibrate and evaluate them")
    _add_run(train, "folder of the run; made where it is not there")
    _add_recipe(train)
    train.add_argument("--stages", nargs="+", metavar="STAGE", help="only these networks of the recipe")
    patients = train.add_mutually_exclusive_group()
    patients.add_argument(
        "--split", type=Path, metavar="FILE", help="JSON with the patients of `training` and `validation`"
    )
    patients.add_argument("--all-patients", action="store_true", help="learn from every patient, validate on none")

    crossvalidate = commands.add_parser("crossvalidate", help="train a recipe once for each fold of patients")
    _add_run(crossvalidate, "folder of the cross-validation")
    _add_recipe(crossvalidate)
    crossvalidate.add_argument("--folds", type=_positive, default=5, help="default: %(default)s")

    calibrate = commands.add_parser("calibrate", help="fit the probability and pick the operating point anew")
    _add_run(calibrate, "a run or a cross-validation")
    calibrate.add_argument("--sensitivity", type=_share, help="of slices at least (default: the recipe's)")
    _add_crossvalidation(calibrate, "take both over from this cross-validation of the same recipe")

    evaluate = commands.add_parser("evaluate", help="write summary.json and report.html")
    _add_run(evaluate, "a run, a cross-validation, or a model repository, which is then served")
    evaluate.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to (default: the run's folder; of a repository build/evaluation)",
    )

    export = commands.add_parser("export", help="prove a run's networks in ONNX and write the next version to serve")
    _add_run(export, "a run")
    _add_model_repository(export)
    _add_crossvalidation(export, "its figures stand for a run that learned from every patient")
    export.add_argument("--force", action="store_true", help="even if it is worse than what is served")

    update = commands.add_parser(
        "update", help="write the next version to serve: the networks that are served, by today's exporter and gate"
    )
    _add_model_repository(update)
    update.add_argument("--data", type=Path, metavar="DIR", help="the Kaggle download, where a network lacks a file")
    update.add_argument(
        "--released",
        type=Path,
        metavar="DIR",
        help="the repository as the served version was released, where a configuration has changed with the gate",
    )
    update.add_argument("--force", action="store_true", help="even if it answers otherwise")

    compare = commands.add_parser("compare", help="several runs in one table")
    compare.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="the first is what the others are held against"
    )
    compare.add_argument("--output", type=Path, metavar="FILE", help=".html, .json or .md")
    return parser


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, metavar="DIR", help="the Kaggle download, unpacked")


def _add_run(command: argparse.ArgumentParser, meaning: str) -> None:
    command.add_argument("run", type=Path, metavar="RUN", help=meaning)
    _add_data(command)
    command.add_argument("--cache", type=Path, metavar="DIR", help="keep decoded slices here, to start faster")


def _add_model_repository(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model-repository", type=Path, default=Path("model_repository"), metavar="DIR", help="default: %(default)s"
    )


def _add_recipe(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--recipe", default=DEFAULT, metavar="NAME", help=f"{', '.join(names())} (default: %(default)s)"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe: stages.segmenter.batch_size=8",
    )
    command.add_argument(
        "--weights", metavar="WHICH", help="start the backbones from these: `imagenet` (a download), or a file"
    )
    command.add_argument("--epochs", type=_positive, help="in place of the recipe's, its course kept in proportion")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--workers", type=_positive, default=2, help="threads that prepare batches (default: %(default)s)"
    )


def _add_crossvalidation(command: argparse.ArgumentParser, meaning: str) -> None:
    command.add_argument("--crossvalidation", type=Path, metavar="DIR", help=meaning)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return share


if __name__ == "__main__":
    sys.exit(main())
