"""The command line: `gliogate analyze`, `gliogate demo`, `gliogate serve`."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from gliogate.connection import target_of
from gliogate.contract import GATE_MODES
from gliogate.errors import GliogateError, ImageError
from gliogate.results import Analysis
from gliogate.runs import Row, analyze_scans, connect, import_embedded, print_table, summary, write_pictures
from gliogate.scans import find_scans
from gliogate.wire import IN_FLIGHT, TIMEOUT_S

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    0 is success, 1 a failure (of at least one scan, or of the server), 2 arguments that cannot be used, 130 Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Who read our output has left. Python would complain when it flushes at exit: let it flush into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (GliogateError, OSError) as error:
        return _fail(error, EXIT_FAILED)


def _fail(error: object, code: int) -> int:
    print(f"gliogate: error: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gliogate",
        description="Find brain tumors in MRI slices and outline them.",
        epilog="For research use only; not a medical device.",
    )
    parser.add_argument("--version", action="version", version=f"gliogate {version('gliogate')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_analyze(commands)
    _add_demo(commands)
    _add_serve(commands)
    return parser


def _add_analyze(commands: Any) -> None:
    parser = commands.add_parser(
        "analyze",
        help="analyze scans: files, and folders with all that is in them",
        description="Analyze scans. The exit code is 0 if all went well, 1 if a scan or the server failed, "
        "2 if the arguments cannot be used (a folder without scans among them).",
    )
    parser.set_defaults(run=_analyze)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a scan, or a folder of scans")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write <stem>_mask.png and <stem>_overlay.png of each scan there"
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write one JSON object a line there; '-' for stdout, instead of the table"
    )
    parser.add_argument(
        "--detection-threshold",
        type=_probability,
        metavar="P",
        help="tumor probability from which the gate opens (default: the server's operating point)",
    )
    parser.add_argument(
        "--mask-threshold",
        type=_probability,
        metavar="P",
        help="probability from which a pixel is tumor (default: the server's operating point)",
    )
    parser.add_argument(
        "--gate", choices=GATE_MODES, default="auto", help="segment what the detector finds, all or none (%(default)s)"
    )
    parser.add_argument(
        "--timeout-s",
        type=_positive(float),
        default=TIMEOUT_S,
        metavar="S",
        help="seconds that an answer may take (%(default)g)",
    )
    parser.add_argument(
        "--in-flight",
        type=_positive(int),
        default=IN_FLIGHT,
        metavar="N",
        help="requests under way at a time (%(default)s)",
    )
    _add_server(parser)


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="see it work, on synthetic scans or your own",
        description="Analyze synthetic scans, or your own, and make a page of what was found.",
    )
    parser.set_defaults(run=_demo)
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="SCAN", help="a scan, or a folder of scans (default: synthetic ones)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("build/demo"), metavar="DIR", help="where the page goes (%(default)s)"
    )
    _add_server(parser)


def _add_serve(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve the models on this machine",
        description="Serve the models with a Triton of this machine, no container, until Ctrl-C or SIGTERM.",
    )
    parser.set_defaults(run=_serve)
    _add_model_repository(parser)
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDR", help="address to listen on (%(default)s)")
    for name, port in (("grpc", 8001), ("http", 8000), ("metrics", 8002)):
        parser.add_argument(f"--{name}-port", type=_port, default=port, metavar="N", help="(%(default)s)")


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", type=_address, metavar="HOST:PORT", help="gRPC address of a running server (default: start one)"
    )
    _add_model_repository(parser)


def _add_model_repository(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model-repository", type=Path, metavar="DIR", help="what a server started here serves (default: gliogate's)"
    )


def _analyze(arguments: argparse.Namespace) -> int:
    output: Path | None = arguments.output
    with ExitStack() as stack:
        try:
            scans = find_scans(arguments.paths)
            if output:
                output.mkdir(parents=True, exist_ok=True)
            lines = stack.enter_context(_open_json(arguments.json))
        except (ImageError, OSError) as error:
            return _fail(error, EXIT_USAGE)
        client = stack.enter_context(connect(arguments.url, arguments.model_repository))
        rows = []
        for outcome in analyze_scans(
            client,
            scans,
            in_flight=arguments.in_flight,
            detection_threshold=arguments.detection_threshold,
            mask_threshold=arguments.mask_threshold,
            gate=arguments.gate,
            timeout_s=arguments.timeout_s,
        ):
            mask = None
            if output and isinstance(outcome.result, Analysis):
                mask = write_pictures(outcome.result, outcome.scan.name, output)
            rows.append(Row.of(outcome))
            if lines:
                _write_json(rows[-1], mask, lines)
    if arguments.json != "-":
        print_table(rows)
    print(summary(rows), file=sys.stderr if arguments.json == "-" else sys.stdout)
    return EXIT_FAILED if any(row.error for row in rows) else 0


def _open_json(name: str | None) -> AbstractContextManager[TextIO | None]:
    if name is None:
        return nullcontext()
    if name == "-":
        return nullcontext(sys.stdout)
    return Path(name).open("w", encoding="utf-8")


def _write_json(row: Row, mask: Path | None, lines: TextIO) -> None:
    """Writes a row as one line, and out of the buffer, so that an interrupted run keeps what was done."""
    record = {
        "path": str(row.scan.path),
        "tumor_probability": row.tumor_probability,
        "tumor": row.tumor,
        "segmented": row.segmented,
        "area_px": row.area_px,
        "bounding_box": row.bounding_box and row.bounding_box._asdict(),
        "latency_s": row.latency_s,
        "mask": mask and str(mask),
        "error": row.error,
    }
    print(json.dumps(record, ensure_ascii=False), file=lines, flush=True)


def _demo(arguments: argparse.Namespace) -> int:
    from gliogate.demo import run_demo

    return run_demo(
        arguments.paths, output=arguments.output, url=arguments.url, model_repository=arguments.model_repository
    )


def _serve(arguments: argparse.Namespace) -> int:
    exit_code: int = import_embedded().serve(
        model_repository=arguments.model_repository,
        host=arguments.host,
        grpc_port=arguments.grpc_port,
        http_port=arguments.http_port,
        metrics_port=arguments.metrics_port,
    )
    return exit_code


def _probability(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no probability, expected 0 to 1")
    return value


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    parse.__name__ = kind.__name__  # argparse names the type so when the text is no number.
    return parse


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port, expected 0 to 65535")
    return value


def _address(text: str) -> str:
    try:
        target_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text
