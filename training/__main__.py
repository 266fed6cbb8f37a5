"""`python -m training train | export | evaluate`."""

import argparse
import logging
import os
import sys
from pathlib import Path

# Before TensorFlow is imported: its notes on the CPU and on missing CUDA libraries are of no use to who trains.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from gliogate import GliogateError
from training.data import DataError


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("training").setLevel(logging.INFO)
    # The commands are imported where they are called, since TensorFlow alone takes seconds.
    try:
        if arguments.command == "train":
            from training.train import train

            train(
                arguments.data,
                arguments.run,
                stages=arguments.stages,
                epochs=arguments.epochs,
                phantom_share=arguments.phantoms,
                weights=arguments.backbone_weights,
                seed=arguments.seed,
            )
        elif arguments.command == "export":
            from training.export import export

            export(arguments.run, arguments.data, arguments.model_repository)
        else:
            from training.evaluate import evaluate

            evaluate(arguments.run, arguments.data, arguments.model_repository)
    except (DataError, GliogateError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ntraining: interrupted; the same command carries on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train the detector and the segmenter, or carry on where they stopped")
    export = commands.add_parser("export", help="prove a run's networks in ONNX and write the next version to serve")
    evaluate = commands.add_parser("evaluate", help="measure what is served on a run's validation patients")
    for command in (train, export, evaluate):
        command.add_argument("run", type=Path, help="folder of the run")
        command.add_argument("--data", type=Path, required=True, help="the Kaggle download, unpacked")
    for command in (export, evaluate):
        command.add_argument("--model-repository", type=Path, default=Path("model_repository"), metavar="DIR")
    train.add_argument("--stages", nargs="+", choices=("detector", "segmenter"), default=("detector", "segmenter"))
    train.add_argument("--epochs", type=_positive, help="in place of the recipe's, its course kept in proportion")
    train.add_argument(
        "--phantoms", type=_share, metavar="SHARE", help="synthetic slices, as a share of the real ones (recipe: 0.1)"
    )
    train.add_argument("--backbone-weights", choices=("imagenet",), help="start the detector from these (a download)")
    train.add_argument("--seed", type=int, default=0)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return share


if __name__ == "__main__":
    sys.exit(main())
