"""The command line of `python -m loadtests`."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from loadtests import scenarios
from loadtests.settings import OPTIONS, Settings, add_arguments

WORKER: Final = "worker"
OUTPUT: Final = Path("build/loadtest")

DESCRIPTION: Final = "How much does the server bear, and what do its users see then?"
Number = TypeVar("Number", int, float)
EXIT_CODES: Final = (
    "exit codes: 0 all is well; 1 an objective was missed, a figure is worse than in the baseline, nothing was\n"
    "answered, no load passed, or the server was lost; 2 the arguments cannot be used, or the server not be reached;\n"
    "3 the run is invalid, or the limit the generator's; 130 Ctrl-C"
)


def make_parser() -> argparse.ArgumentParser:
    """The parser; what `Settings` has is checked there."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="scenarios:\n"
        + "\n".join(f"  {name:<14} {scenarios.question(name)}" for name in scenarios.names())
        + f"\n  {WORKER:<14} sends for a master, started with --workers on another machine"
        + f"\n\n{EXIT_CODES}",
    )
    parser.add_argument(
        "scenarios",
        nargs="+",
        metavar="SCENARIO",
        choices=[*scenarios.names(), WORKER],
        help="one or several; see below",
    )
    load = parser.add_argument_group("the server and the load")
    load.add_argument("--embedded", action="store_true", help="start a server on this machine, and test that one")
    add_arguments(load)
    load.add_argument("--users", type=int, metavar="N", help="users of a closed loop (default: the scenario's)")
    _add_verdict(parser.add_argument_group("the verdict and the report"))
    _add_search(parser.add_argument_group("the search for the limit"))
    _add_workers(parser.add_argument_group("processes that send"))
    return parser


def _add_verdict(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--slo", metavar="SLO", help="objectives, as in 'p99<250ms,errors<0.1%%'; missed ones exit with 1"
    )
    group.add_argument(
        "--baseline", type=Path, metavar="FILE", help="an earlier report.json; a regression exits with 1"
    )
    group.add_argument(
        "--tolerance", type=positive(float), default=5.0, metavar="PERCENT", help="no regression below (%(default)g)"
    )
    group.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="of the report (%(default)s)")


def _add_workers(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--workers", type=positive(int), default=0, metavar="N", help="how many (default: this one alone)"
    )
    group.add_argument(
        "--no-spawn-workers",
        dest="spawn_workers",
        action="store_false",
        help="wait for them, they are started elsewhere",
    )
    group.add_argument(
        "--master-host", default="127.0.0.1", metavar="ADDR", help="where the master listens (%(default)s)"
    )
    group.add_argument("--master-port", type=_port, default=5557, metavar="N", help="and its port (%(default)s)")


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--find-max",
        nargs="?",
        const="rate",
        choices=("rate", "users"),
        help="search for the largest load that keeps to --slo, of the scenario's calls, in place of its stages",
    )
    group.add_argument("--repeats", type=positive(int), default=3, metavar="N", help="bisections (%(default)s)")
    group.add_argument(
        "--resolution", type=positive(float), default=5.0, metavar="PERCENT", help="how closely they look (%(default)g)"
    )
    group.add_argument(
        "--step-s", type=positive(float), default=10.0, metavar="S", help="the shortest step (%(default)g)"
    )
    group.add_argument(
        "--step-max-s", type=positive(float), default=60.0, metavar="S", help="the longest step (%(default)g)"
    )


def worker_words(settings: Settings, arguments: argparse.Namespace) -> list[str]:
    """The command line of a worker that is started here."""
    words = [WORKER, "--master-host", arguments.master_host, "--master-port", str(arguments.master_port)]
    for name, option in OPTIONS.items():
        value = getattr(settings, name)
        if isinstance(value, tuple):
            value = ",".join(f"{part:g}" for part in value if part is not None) or None
        words += [] if value is None else [option, str(value)]
    return words


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 2**16:
        raise argparse.ArgumentTypeError(f"{text} is no port, expected 1 to {2**16 - 1}")
    return port


_port.__name__ = "port"  # argparse tells it of a text that is none.


def positive(number: type[Number]) -> Callable[[str], Number]:
    """What reads an option that is above 0 and has an end."""

    def read(text: str) -> Number:
        value = number(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    read.__name__ = number.__name__  # argparse tells it of a text that is none.
    return read
