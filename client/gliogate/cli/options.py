"""Options of the command line that several commands have, and the types of their values."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final, TextIO

import shtab

from gliogate.connection import TLS, URL_VARIABLE, Connection, ConnectionOptions, Retries, target_of
from gliogate.contract import GATE_MODES, QUEUE_SIZE
from gliogate.errors import AuthenticationError
from gliogate.proxies import ENVIRONMENT
from gliogate.runs import Server
from gliogate.volumes.dicom import Choice
from gliogate.volumes.reading import VolumeSource, is_volume
from gliogate.volumes.sequences import SEQUENCES, Sequence3
from gliogate.wire import IN_FLIGHT, MAX_TIMEOUT_S, TIMEOUT_S, Options

STDOUT: Final = "-"
"""What stands for stdout where a file is asked for."""


class UsageError(Exception):
    """Arguments that make no sense together, or with what is on disk."""


class TryAgainError(Exception):
    """What was needed was not there: the same command may go on later."""


def path_of(text: str) -> Path:
    """A path of the command line; an empty one, as of a variable that is not set, would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, not an empty text")
    return Path(text)


def add_path(parser: Any, name: str, *, kind: Any = path_of, complete: Any = shtab.FILE, **options: Any) -> None:
    """Adds an argument that is a path, with which shells complete it."""
    parser.add_argument(name, type=kind, **options).complete = complete


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Adds which server to ask, and how to reach it."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--url",
        type=_address,
        default=os.environ.get(URL_VARIABLE) or None,
        metavar="HOST:PORT",
        help=f"gRPC address of a running server (default: {URL_VARIABLE} of the environment, or else one is started)",
    )
    add_model_repository(group)
    group.add_argument("--tls", action="store_true", help="encrypt; so does each of the next four")
    add_path(group, "--ca", metavar="FILE", help="PEM file of the authorities that the server's certificate is from")
    add_path(group, "--cert", metavar="FILE", help="PEM file with a certificate of ours, for servers that want one")
    add_path(group, "--key", metavar="FILE", help="PEM file with its key")
    group.add_argument("--server-name", metavar="NAME", help="in the server's certificate, where it is not the host")
    add_path(group, "--token-file", metavar="FILE", help="with a bearer token, read anew for each call; over TLS only")
    group.add_argument(
        "--header", type=_header, action="append", default=[], metavar="NAME=VALUE", help="metadata of each call"
    )
    group.add_argument(
        "--proxy",
        metavar="URL",
        help="HTTP proxy on the way to it, http://HOST:PORT, over TLS only; "
        f"'{ENVIRONMENT}' for what https_proxy and its like name (default: none)",
    )
    group.add_argument("--compression", choices=("gzip", "deflate"), help="of what is sent (default: none)")
    group.add_argument(
        "--attempts",
        type=int,
        default=Retries().attempts,
        metavar="N",
        help="how often a request is sent while the server is unavailable, 1 to 5 (%(default)s)",
    )


def server_of(arguments: argparse.Namespace) -> Server:
    """The server that the options of `add_server_options` name.

    Raises:
        UsageError: they make no sense; nothing has been sent.
    """
    tls_options = (arguments.ca, arguments.cert, arguments.key, arguments.server_name)
    has_tls = arguments.tls or any(tls_options)
    if arguments.url is None and (has_tls or arguments.token_file or arguments.proxy is not None):
        raise UsageError("TLS, tokens and proxies are for a running server: name it with --url")
    try:
        options = ConnectionOptions(
            metadata=dict(arguments.header),
            compression=arguments.compression,
            retries=Retries(attempts=arguments.attempts),
            proxy=arguments.proxy,
        )
        if has_tls:
            ca, certificate, key, name = tls_options
            options["tls"] = TLS(root_certificates=ca, certificate=certificate, private_key=key, server_name=name)
        if arguments.token_file:
            options["token"] = _token_reader(arguments.token_file)
        Connection.to(arguments.url, **options).headers()  # A token that cannot be sent is told at once, too.
    except (ValueError, OSError, AuthenticationError) as error:
        raise UsageError(str(error)) from error
    return Server(url=arguments.url, model_repository=arguments.model_repository, connection=options)


def _token_reader(path: Path) -> Callable[[], str]:
    return partial(_read_token, path)


def _read_token(path: Path) -> str:
    return path.read_text().strip()


def add_model_repository(parser: Any) -> None:
    """Adds what a server that is started here serves."""
    add_path(
        parser,
        "--model-repository",
        complete=shtab.DIRECTORY,
        metavar="DIR",
        help="what a server started here serves (default: gliogate's)",
    )


def add_analysis_options(parser: argparse.ArgumentParser) -> None:
    """Adds what is asked of the server for each slice."""
    parser.add_argument(
        "--detection-threshold",
        type=probability,
        metavar="P",
        help="tumor probability from which the gate opens (default: the server's operating point)",
    )
    parser.add_argument(
        "--mask-threshold",
        type=probability,
        metavar="P",
        help="probability from which a pixel is tumor (default: the server's operating point)",
    )
    parser.add_argument(
        "--gate", choices=GATE_MODES, default="auto", help="segment what the detector finds, all or none (%(default)s)"
    )
    parser.add_argument(
        "--timeout-s",
        type=positive(float, at_most=MAX_TIMEOUT_S),
        default=TIMEOUT_S,
        metavar="S",
        help="seconds that an answer may take (%(default)g)",
    )


def analysis_options_of(arguments: argparse.Namespace) -> Options:
    """What the options of `add_analysis_options` ask for."""
    return Options(
        detection_threshold=arguments.detection_threshold,
        mask_threshold=arguments.mask_threshold,
        gate=arguments.gate,
        timeout_s=arguments.timeout_s,
    )


def add_in_flight(parser: argparse.ArgumentParser) -> None:
    """Adds how many requests are under way at a time."""
    parser.add_argument(
        "--in-flight",
        type=positive(int),
        default=IN_FLIGHT,
        metavar="N",
        help=f"requests under way at a time, at most {QUEUE_SIZE} for each server (%(default)s)",
    )


def add_volume_options(parser: argparse.ArgumentParser) -> None:
    """Adds how volumes are read."""
    group = parser.add_argument_group("volumes")
    group.add_argument("--volume", action="store_true", help="take each folder of pictures for one head")
    add_reading_options(group)
    for kind in ("pre", "post"):
        add_path(
            group, f"--{kind}", metavar="PATH", help=f"{kind}-contrast images; PATH is then FLAIR of the same head"
        )


def add_reading_options(group: Any) -> None:
    """Adds how a volume is read that is named by one path, and what is kept of its mask."""
    group.add_argument(
        "--series",
        action="append",
        default=[],
        metavar="[KIND=]NAME",
        help="the DICOM series to read, by its UID, number or description; "
        f"one for each of {', '.join(SEQUENCES)} with KIND=",
    )
    group.add_argument(
        "--window", action="store_true", help="scale DICOM by the window that it asks for (default: by its own range)"
    )
    group.add_argument(
        "--min-component-ml",
        type=positive(float),
        default=0.0,
        metavar="ML",
        help="drop connected parts of a volume's mask that are smaller",
    )


def source_of(arguments: argparse.Namespace, path: Path) -> VolumeSource | None:
    """What `read_volume` reads of a path; None where that is pictures, each by itself."""
    sources: dict[Sequence3, Path | None] = {"flair": path, "pre": arguments.pre, "post": arguments.post}
    given = {kind: source for kind, source in sources.items() if source}
    if len(given) > 1:
        return given
    return path if is_volume(path) or (arguments.volume and path.is_dir()) else None


def choice_of(arguments: argparse.Namespace) -> Choice | None:
    """The series that were named.

    Raises:
        UsageError: some with and some without a kind, or one kind twice.
    """
    chosen: dict[Sequence3, str] = {}
    for kind in SEQUENCES:
        for text in arguments.series:
            if text.startswith(f"{kind}="):
                chosen[kind] = text.removeprefix(f"{kind}=")
    if not chosen and len(arguments.series) < 2:
        return arguments.series[0] if arguments.series else None
    if len(chosen) < len(arguments.series):
        raise UsageError(f"--series: several, expected each of {', '.join(SEQUENCES)} once at most, and before each =")
    return chosen


def volume_options_of(arguments: argparse.Namespace) -> str:
    """The options that were given and mean nothing for a picture, for a message; empty where there are none."""
    options = ("volume", "series", "window", "min_component_ml")
    return " and ".join(f"--{name.replace('_', '-')}" for name in options if getattr(arguments, name, None))


def check_exist(paths: Iterable[Path | None]) -> None:
    """Refuses paths that were mistyped, before a server is started for them.

    Raises:
        UsageError: nothing is there.
    """
    for path in paths:
        try:
            if path is not None and not path.exists():
                raise UsageError(f"{path}: no such file or folder")
        except OSError as error:  # It may not be looked at.
            raise UsageError(f"{path}: {error.strerror}") from error


def open_lines(name: str | None) -> AbstractContextManager[TextIO | None]:
    """Opens what `--json` names; a file keeps what is in it until `start_anew`."""
    if name is None:
        return nullcontext()
    if name == STDOUT:
        return nullcontext(sys.stdout)
    return Path(name).open("a", encoding="utf-8")


def start_anew(lines: TextIO | None) -> None:
    """Empties a file that `open_lines` opened; there is nothing to empty in a pipe or a terminal."""
    if lines not in (None, sys.stdout) and S_ISREG(os.fstat(lines.fileno()).st_mode):
        lines.truncate(0)


def probability(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no probability, expected 0 to 1")
    return value


def positive(kind: type[int] | type[float], *, at_most: float = float("inf")) -> Callable[[str], float]:
    """A finite number above 0."""

    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        if value > at_most:
            raise argparse.ArgumentTypeError(f"{text} is too large, expected at most {at_most:g}")
        return value

    parse.__name__ = kind.__name__  # argparse names the type so when the text is no number.
    return parse


def port(text: str) -> int:
    """A number of a port; 0 is any that is free."""
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


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is no header, expected NAME=VALUE")
    return name, value
