"""`python -m deploy.simulate`: a day's load, through measured service times and the chart's scaling."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from deploy.simulate.day import Plan, simulate
from deploy.simulate.load import Load
from deploy.simulate.page import COLUMNS, page, rows
from deploy.simulate.pods import Service
from gliogate.runs import FILE_WIDTH
from reports.frame import write_page

CHART_VALUES = Path(__file__).parents[1] / "helm" / "gliogate" / "values.yaml"
_LARGEST = 1_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0, 1 without a page, 2 for arguments that cannot be used."""
    arguments = make_parser().parse_args(argv)
    try:
        values = merge(_read(CHART_VALUES), _read(arguments.values) if arguments.values else {})
        load = Load.read(arguments.load) if arguments.load else Load.wave(arguments.night, arguments.peak)
        service = _service(arguments, values)
        plans = [_plan(arguments, values, target) for target in _targets(arguments, values)]
    except (OSError, ValueError, LookupError, TypeError) as error:
        print(f"simulate: error: {error}", file=sys.stderr)
        return 2
    days = [simulate(load, service, plan) for plan in plans]
    table = Table(*COLUMNS)
    for row in rows(days):
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    console.print(table)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    if not write_page(arguments.output, lambda: page(service, days)):
        return 1
    print(arguments.output)
    return 0


def measured(report: Path) -> tuple[float, float]:
    """Reads what a pod can do from a load test of one, `python -m loadtests ramp`.

    Returns:
        The mean latency of its stage with one user, in seconds; the highest rate of any stage, in requests a second.

    Raises:
        ValueError: the report has no such stages.
    """
    stages = [each for each in json.loads(report.read_text(encoding="utf-8"))["stages"] if each["is_valid"]]
    alone = [each["figures"]["mean_ms"] for each in stages if each["stage"]["users"] == 1]
    rates = [each["figures"]["rate"] for each in stages if each["figures"]["rate"]]
    if not alone or alone[0] is None or not rates:
        raise ValueError(f"{report}: no valid stage with one user; `python -m loadtests ramp` makes one")
    return alone[0] / 1000, max(rates)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Puts values over others, as Helm does."""
    both = {key: merge(base[key], over[key]) for key in base.keys() & over.keys() if isinstance(over[key], dict)}
    return {**base, **over, **both}


def _service(arguments: argparse.Namespace, values: Mapping[str, Any]) -> Service:
    if arguments.report:
        latency_s, throughput = measured(arguments.report)
    elif arguments.service_ms and arguments.throughput:
        latency_s, throughput = arguments.service_ms / 1000, arguments.throughput
    else:
        raise ValueError("what a pod can do is not known: give --report, or --service-ms and --throughput")
    return Service(latency_s, throughput, values["monitoring"]["rules"]["queueCapacity"])


def _targets(arguments: argparse.Namespace, values: Mapping[str, Any]) -> list[float]:
    if not arguments.in_flight:
        return [float(values["autoscaling"]["targets"]["inFlight"])]
    targets = [float(each) for each in arguments.in_flight.split(",")]
    for target in targets:
        if not 0 < target < _LARGEST:
            raise ValueError(f"--in-flight is {target:g}, expected above 0")
    return targets


def _plan(arguments: argparse.Namespace, values: Mapping[str, Any], in_flight: float) -> Plan:
    scaling, drain = values["autoscaling"], values["drain"]
    least = arguments.min_replicas or scaling["minReplicas"]
    most = arguments.max_replicas or scaling["maxReplicas"]
    if not 1 <= least <= most:
        raise ValueError(f"{least} to {most} pods: expected one or more, and no fewer at most than at least")
    return Plan(
        least=least,
        most=most,
        in_flight=in_flight,
        queue_s=scaling["targets"]["queueMs"] / 1000,
        behavior=scaling["behavior"],
        start_s=arguments.start_s,
        drain_s=drain["seconds"] + drain["exitTimeoutS"],
        gpus=0 if values["accelerator"]["profile"] == "cpu" else values["accelerator"]["count"],
    )


def _read(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no values")
    return content


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.simulate",
        description="Replays a day's load through measured service times and the chart's scaling, and tells how many "
        "pods there are, how long answers take, and what it costs.",
    )
    pod = parser.add_argument_group("what a pod can do")
    pod.add_argument("--report", type=Path, metavar="FILE", help="report.json of `python -m loadtests ramp` on one pod")
    pod.add_argument("--service-ms", type=_positive, metavar="MS", help="an answer when nothing else is asked")
    pod.add_argument("--throughput", type=_positive, metavar="R", help="requests a second of a full pod")
    pod.add_argument("--start-s", type=_positive, default=60.0, metavar="S", help="until it is ready (%(default)g)")
    day = parser.add_argument_group("the load")
    day.add_argument("--load", type=Path, metavar="FILE", help="CSV of seconds and rate; else a sinusoid over a day")
    day.add_argument(
        "--peak", type=_positive, default=100.0, metavar="R", help="requests a second at noon (%(default)g)"
    )
    day.add_argument("--night", type=_positive, default=10.0, metavar="R", help="and at midnight (%(default)g)")
    scaling = parser.add_argument_group("the scaling")
    scaling.add_argument("--values", type=Path, metavar="FILE", help="values of a release, over those of the chart")
    scaling.add_argument("--in-flight", metavar="N[,N…]", help="targets to compare (default: the values')")
    scaling.add_argument("--min-replicas", type=int, metavar="N", help="(default: the values')")
    scaling.add_argument("--max-replicas", type=int, metavar="N", help="(default: the values')")
    output = Path("build/simulate/day.html")
    parser.add_argument("--output", type=Path, default=output, metavar="FILE", help="the page (%(default)s)")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < _LARGEST:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
