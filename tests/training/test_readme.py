"""The commands of training that the README shows can be called; the other tests here run each of them."""

from pathlib import Path

from support.readmes import commands

from training.__main__ import make_parser
from training.recipes import find

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_its_commands_are_the_parsers():
    parsed = [make_parser().parse_args(command[3:]) for command in commands(README, "python -m training")]
    told = [arguments.command for arguments in parsed]
    first = ["explore", "train", "export", "evaluate", "update"]
    assert told == [*first, "crossvalidate", "train", "calibrate", "export", "train", "compare"]
    for arguments in parsed:
        if "recipe" in arguments:
            find(arguments.recipe).with_changes(arguments.set)
