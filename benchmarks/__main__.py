"""`python -m benchmarks`, `make bench`: gliogate against its engines alone and against what people serve with today.

Everything runs on this machine, over loopback, on the same networks and slices, in rounds in which all take turns. Each
system runs alone: it is started, warmed up, asked from this process, and ended. Leaves `bench.json`, which is written
after every round, and `bench.html`; Ctrl-C ends it with what there is.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.goals import IN_FLIGHT, PREVALENCE
from benchmarks.measuring import TURNOVERS, Plan, Results, measure
from benchmarks.pair import OURS
from benchmarks.repositories import networks_of
from benchmarks.rows import rows_of, savings_of, starts_of
from benchmarks.systems import IN_FLIGHT as LEVELS
from benchmarks.systems import System, Workshop
from benchmarks.workload import Workload
from gliogate.embedded import find_model_repository


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the tables, writes the files."""
    parser = _parser()
    options = parser.parse_args(arguments)
    console = report.terminal()
    repository = find_model_repository(options.model_repository)
    folder = options.output.absolute()
    workshop = Workshop(repository, networks_of(repository, OURS), folder)
    systems = _chosen(workshop.systems(), options.systems, parser)
    turnovers = TURNOVERS
    if options.quick:
        turnovers = 1
        options.slices, options.rounds, options.prevalence, options.in_flight = 16, 1, [PREVALENCE], [IN_FLIGHT]
    shares = sorted(options.prevalence, key=lambda share: share != PREVALENCE)
    workloads = [Workload.draw(options.slices, share) for share in shares]
    before = report.machine()

    def document(results: Results) -> dict[str, Any]:
        return {
            "is_complete": results.rounds == options.rounds,
            "machine": before,
            "slices": options.slices,
            "rounds": results.rounds,
            "rows": rows_of(results, systems),
            "savings": savings_of(results, IN_FLIGHT),
            "starts": starts_of(results),
        }

    plan = Plan(options.rounds, workloads, options.in_flight, [IN_FLIGHT], turnovers)
    results = measure(systems, plan, console, lambda so_far: report.write(document(so_far), folder))
    report.write(document(results), folder)
    report.show(document(results), console)
    report.draw(document(results), folder)
    if results.rounds < options.rounds:
        sys.exit(128 + signal.SIGINT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often every system has its turn")
    parser.add_argument("--slices", type=int, default=96, help="how many slices are drawn")
    parser.add_argument("--prevalence", type=float, nargs="+", default=[0.35, 0.0, 0.1, 1.0], metavar="SHARE")
    parser.add_argument(
        "--systems", nargs="+", metavar="WORD", help="only those whose name has one of these words in it"
    )
    parser.add_argument("--in-flight", type=int, nargs="+", default=list(LEVELS), metavar="N", help=f"of {LEVELS}")
    parser.add_argument("--quick", action="store_true", help="once, on a few slices: whether all works, no figures")
    parser.add_argument("--model-repository", type=Path, help="another one than this checkout's")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="the folder for files")
    return parser


def _chosen(systems: Sequence[System], words: Sequence[str] | None, parser: argparse.ArgumentParser) -> list[System]:
    """Those that are named; the limit always, since all else is a share of it."""
    for word in words or ():
        if not any(word.lower() in system.name.lower() for system in systems):
            parser.error(f"no system has {word!r} in its name; there are: {', '.join(dict.fromkeys(_names(systems)))}")
    wanted = [word.lower() for word in words or [""]]
    return [
        system for system in systems if system.kind == "limit" or any(word in system.name.lower() for word in wanted)
    ]


def _names(systems: Sequence[System]) -> list[str]:
    return [system.name for system in systems]


if __name__ == "__main__":
    main()
