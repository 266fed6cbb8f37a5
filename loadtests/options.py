"""The command line of `python -m loadtests`."""

import argparse
from pathlib import Path
from typing import Final

from loadtests import scenarios
from loadtests.settings import OPTIONS, Settings, add_arguments

WORKER: Final = "worker"
OUTPUT: Final = Path("build/loadtest")

DESCRIPTION: Final = "How much does the server bear, and what do its users see then?"


def make_parser() -> argparse.ArgumentParser:
    """The parser; what `Settings` has is checked there."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="scenarios:\n"
        + "\n".join(f"  {name:<14} {scenarios.question(name)}" for name in scenarios.names())
        + f"\n  {WORKER:<14} sends for a master, started with --workers on another machine",
    )
    parser.add_argument(
        "scenarios",
        nargs="+",
        metavar="SCENARIO",
        choices=[*scenarios.names(), WORKER],
        help="one or several; see below",
    )
    parser.add_argument("--embedded", action="store_true", help="start a server on this machine, and test that one")
    add_arguments(parser)
    parser.add_argument("--users", type=int, metavar="N", help="users of a closed loop (default: the scenario's)")
    parser.add_argument(
        "--slo", metavar="SLO", help="objectives, as in 'p99<250ms,errors<0.1%%'; missed ones exit with 1"
    )
    parser.add_argument(
        "--find-max",
        nargs="?",
        const="rate",
        choices=("rate", "users"),
        help="search for the largest load that keeps to --slo, in place of the scenario's stages",
    )
    _add_search(parser)
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="an earlier report.json; a regression exits with 1"
    )
    parser.add_argument(
        "--tolerance", type=_positive, default=5.0, metavar="PERCENT", help="no regression below (%(default)g)"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="of the report (%(default)s)")
    parser.add_argument(
        "--workers", type=_count, default=0, metavar="N", help="processes that send (default: this one)"
    )
    parser.add_argument(
        "--no-spawn-workers",
        dest="spawn_workers",
        action="store_false",
        help="wait for them, they are started elsewhere",
    )
    parser.add_argument("--master-host", default="127.0.0.1", metavar="ADDR", help="(%(default)s)")
    parser.add_argument("--master-port", type=int, default=5557, metavar="N", help="(%(default)s)")
    return parser


def worker_words(settings: Settings, arguments: argparse.Namespace) -> list[str]:
    """The command line of a worker that is started here."""
    words = [WORKER, "--master-host", arguments.master_host, "--master-port", str(arguments.master_port)]
    for name, option in OPTIONS.items():
        value = getattr(settings, name)
        if isinstance(value, tuple):
            value = ",".join(f"{part:g}" for part in value)
        words += [] if value is None else [option, str(value)]
    return words


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=_count, default=3, metavar="N", help="bisections of a search (%(default)s)")
    parser.add_argument(
        "--resolution", type=_positive, default=5.0, metavar="PERCENT", help="of a search (%(default)g)"
    )
    parser.add_argument("--step-s", type=_positive, default=10.0, metavar="S", help="its shortest step (%(default)g)")
    parser.add_argument(
        "--step-max-s", type=_positive, default=60.0, metavar="S", help="its longest step (%(default)g)"
    )


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
