"""What the README of the load tests shows can be called, and what it lists is there."""

import re
from pathlib import Path

from support.readmes import commands

from loadtests import scenarios
from loadtests.options import make_parser
from loadtests.run import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_INVALID, EXIT_USAGE
from loadtests.settings import Settings
from loadtests.slo import Slo

FOLDER = Path(__file__).parents[2] / "loadtests"
README = (FOLDER / "README.md").read_text()


def test_every_command_can_be_parsed():
    found = commands(README, "python -m loadtests ") + commands(README, "taskset -c 0 python -m loadtests ")
    assert len(found) >= 8
    for words in found:
        arguments = make_parser().parse_args(words[words.index("loadtests") + 1 :])
        settings = Settings.of(arguments)
        if arguments.slo:
            Slo.parse(arguments.slo)
        for name in arguments.scenarios:
            assert name == "worker" or scenarios.stages(name, settings)


def test_every_scenario_is_in_its_table_with_its_loop():
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", README, re.MULTILINE))
    assert set(rows) == set(scenarios.names())
    for name, loop in rows.items():
        kinds = {stage.is_open for stage in scenarios.stages(name, Settings())}
        assert loop == {(True,): "open", (False,): "closed"}.get(tuple(kinds), "both"), name


def test_exit_codes_are_those_of_the_table():
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)]
    assert codes == [0, EXIT_FAILED, EXIT_USAGE, EXIT_INVALID, EXIT_INTERRUPTED]


def test_no_room_that_it_names_is_missing():
    rooms = README.partition("## The rooms")[2]
    named = set(re.findall(r"`([a-z_]+)`", rooms))
    there = {path.stem for path in FOLDER.glob("*.py")} | {path.name for path in FOLDER.iterdir() if path.is_dir()}
    assert named <= there
    assert there - named <= {"__init__", "__main__", "__pycache__"} | {"errors", "patched", "pace", "users"} | {
        "instant",
        "interrupts",
        "options",
        "session",
        "settings",
    }
