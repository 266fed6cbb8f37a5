"""The command line: `gliogate analyze`, `cohort`, `info`, `demo`, `serve`, `doctor`, `completion`."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final

import shtab

from gliogate.cli import analyze, cohort, doctor, info
from gliogate.cli.options import (
    TryAgainError,
    UsageError,
    add_model_repository,
    add_path,
    add_server_options,
    check_exist,
    port,
    server_of,
)
from gliogate.errors import GliogateError
from gliogate.runs import import_embedded, printable

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_TRY_AGAIN: Final = 75
EXIT_INTERRUPTED: Final = 130

EXIT_CODES: Final = (
    "exit codes: 0 all went well; 1 something failed: a scan, a volume, the server, a check; "
    "2 the arguments cannot be used; 130 Ctrl-C"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code, see `EXIT_CODES`."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        # A file's name may be no text at all: it is shown in escapes, not the end of the run.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = _parser().parse_args(argv)
        run: Callable[[argparse.Namespace], bool] = arguments.run
        return 0 if run(arguments) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Who read our output has left. Python would complain when it flushes at exit: let it flush into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except UsageError as error:
        return _fail(error, EXIT_USAGE)
    except TryAgainError as error:
        return _fail(error, EXIT_TRY_AGAIN)
    except (GliogateError, OSError) as error:
        return _fail(error, EXIT_FAILED)


def _fail(error: object, code: int) -> int:
    told = printable(str(error), keep="\n")
    print(f"gliogate: error: {told}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gliogate",
        description="Find brain tumors in MRI slices and outline them.",
        epilog=f"{EXIT_CODES}. For research use only; not a medical device.",
    )
    parser.add_argument("--version", action="version", version=f"gliogate {version('gliogate')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    analyze.add(commands)
    cohort.add(commands)
    info.add(commands)
    _add_demo(commands)
    _add_serve(commands)
    doctor.add(commands)
    _add_completion(commands)
    return parser


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="see it work, on synthetic scans or your own",
        description="Analyze synthetic scans, or your own, and make a page of what was found.",
        epilog=EXIT_CODES,
    )
    parser.set_defaults(run=_demo)
    add_path(parser, "paths", nargs="*", metavar="SCAN", help="a scan, or a folder of scans (default: synthetic ones)")
    add_path(
        parser,
        "--output",
        complete=shtab.DIRECTORY,
        default=Path("build/demo"),
        metavar="DIR",
        help="where the page goes (%(default)s)",
    )
    add_server_options(parser)


def _demo(arguments: argparse.Namespace) -> bool:
    from gliogate.demo import run_demo

    check_exist(arguments.paths)
    return run_demo(arguments.paths, output=arguments.output, server=server_of(arguments))


def _add_serve(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve the models on this machine",
        description="Serve the models with a Triton of this machine, no container, until Ctrl-C or SIGTERM.",
        epilog=f"{EXIT_CODES}. SIGTERM, with which supervisors stop what they run, is an end that went well.",
    )
    parser.set_defaults(run=_serve)
    add_model_repository(parser)
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDR", help="address to listen on (%(default)s)")
    for name, number, use in (
        ("grpc", 8001, "inference"),
        ("http", 8000, "health"),
        ("metrics", 8002, "for Prometheus"),
    ):
        parser.add_argument(f"--{name}-port", type=port, default=number, metavar="N", help=f"{use} (%(default)s)")
    parser.add_argument("--http-inference", action="store_true", help="answer inference by KServe's HTTP protocol, too")
    add_path(parser, "--tls-cert", metavar="FILE", help="PEM file with the server's certificate: encrypt")
    add_path(parser, "--tls-key", metavar="FILE", help="PEM file with its key")
    add_path(parser, "--tls-client-ca", metavar="FILE", help="PEM file of the authorities of clients: refuse others")
    add_path(
        parser, "--token-file", metavar="FILE", help="with the bearer token that requests must carry; over TLS only"
    )
    parser.add_argument(
        "--no-restart",
        dest="restart",
        action="store_false",
        help="end with 1 when Triton dies or hangs, for a supervisor to see, rather than start it again",
    )
    parser.add_argument(
        "--model-config-name",
        default="",
        metavar="NAME",
        help="serve configs/NAME.pbtxt of each model that has it, in place of config.pbtxt (fp32: in 32 bits)",
    )


def _serve(arguments: argparse.Namespace) -> bool:
    embedded = import_embedded()
    try:
        token = arguments.token_file and arguments.token_file.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"{arguments.token_file}: {error}") from error
    try:
        embedded.serve(
            model_repository=arguments.model_repository,
            restart=arguments.restart,
            host=arguments.host,
            grpc_port=arguments.grpc_port,
            http_port=arguments.http_port,
            metrics_port=arguments.metrics_port,
            http_inference=arguments.http_inference,
            tls_certificate=arguments.tls_cert,
            tls_private_key=arguments.tls_key,
            tls_client_authority=arguments.tls_client_ca,
            token=token,
            model_config_name=arguments.model_config_name,
        )
    except ValueError as error:  # TLS that cannot be used, say; what goes wrong later is none.
        raise UsageError(error) from error
    return True


def _add_completion(commands: Any) -> None:
    parser = commands.add_parser(
        "completion",
        help="print what lets a shell complete gliogate's arguments",
        description="Print a script for a shell: `source <(gliogate completion bash)`, "
        "or `gliogate completion zsh > FOLDER/_gliogate`, a folder of zsh's fpath.",
    )
    parser.set_defaults(run=_complete)
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)


def _complete(arguments: argparse.Namespace) -> bool:
    print(shtab.complete(_parser(), arguments.shell))
    return True
