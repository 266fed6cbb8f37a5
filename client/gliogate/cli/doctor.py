"""`gliogate doctor`: what is installed here, how the server is, and what to do about what is missing."""

import argparse
import importlib
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, Literal

from rich.console import Console
from rich.text import Text

from gliogate.cli.options import add_server_options, server_of
from gliogate.client import Client
from gliogate.connection import DEFAULT_URL, Connection
from gliogate.contract import ENSEMBLE
from gliogate.errors import EmbeddedServerError, GliogateError, MissingExtraError, ServerUnavailableError
from gliogate.installed import EXTRAS, has_triton, install_command, missing_modules
from gliogate.phantom import make_phantoms
from gliogate.proxies import EXEMPTING_VARIABLES, shown, variables
from gliogate.runs import Server
from gliogate.wire import READINESS_TIMEOUT_S

State = Literal["ok", "absent", "failed"]

STYLES: Final = {"ok": "green", "absent": "dim", "failed": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what.
        state: `absent` is what nobody has asked for and not there; only `failed` makes the exit code 1.
        details: what was found, and what to do about it.
        extra: the extra that was looked at, if it was one.
    """

    subject: str
    state: State
    details: str
    extra: str | None = None


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "doctor",
        help="check what is installed here and how the server is",
        description="Check what is installed here, and the server: the one that is named, or else one on this machine. "
        "One synthetic slice is sent to it.",
        epilog="The exit code is 0 if nothing is broken and a server that was named is ready, 1 otherwise.",
    )
    parser.set_defaults(run=run)
    add_server_options(parser)


def run(arguments: argparse.Namespace) -> bool:
    """Runs the command; returns whether nothing failed.

    Raises:
        UsageError: the arguments cannot be used.
    """
    server = server_of(arguments)
    console = Console()
    failed = False
    wanted = []
    for finding in examine(server):
        state = Text(f"{finding.state:<7}", STYLES[finding.state])
        console.print(state, Text(f"{finding.subject:<15} {finding.details}"), soft_wrap=True)
        failed |= finding.state == "failed"
        if finding.extra and finding.state != "ok":
            wanted.append(finding.extra)
    if wanted:
        console.print(Text(f"This installs what is absent, and suits all: {install_command(*wanted)}"), soft_wrap=True)
    return not failed


def examine(server: Server) -> Iterator[Finding]:
    """Looks at one thing after the other."""
    yield Finding("gliogate", "ok", f"{version('gliogate')}, Python {platform.python_version()}, {platform.platform()}")
    for extra in EXTRAS:
        yield _examine_extra(extra)
    if has_triton():
        yield _examine_models(server)
    yield _examine_proxy(server)
    yield _examine_server(server)


def _examine_extra(extra: str) -> Finding:
    subject = f"extra {extra}"
    if extra == "embedded" and not has_triton():
        return Finding(subject, "absent", "for Linux on x86_64 only")
    if absent := missing_modules(extra):
        return Finding(subject, "absent", f"{', '.join(absent)} not installed", extra)
    try:
        _try(extra)
    except GliogateError as error:
        return Finding(subject, "failed", str(error), extra)
    return Finding(subject, "ok", ", ".join(EXTRAS[extra]), extra)


def _try(extra: str) -> None:
    """Raises an error where the libraries of an extra are there and of no use."""
    if extra == "embedded":
        from gliogate.embedded.installation import Installation

        Installation.find()  # They are imported by Triton's processes alone, which need more than that they are there.
        return
    for module in EXTRAS[extra]:
        try:
            importlib.import_module(module)
        except Exception as error:  # Whatever a broken library does when it is imported.
            raise MissingExtraError(f"{module} cannot be imported ({error})") from error


def _examine_models(server: Server) -> Finding:
    from gliogate.embedded.repository import check_repository, describe, find_model_repository

    try:
        repository = find_model_repository(server.model_repository)
        check_repository(repository, "")
    except EmbeddedServerError as error:
        # They are asked for where they are named.
        return Finding("models", "failed" if server.model_repository else "absent", str(error))
    return Finding("models", "ok", describe(repository))


def _examine_proxy(server: Server) -> Finding:
    """What stands on the way to the server, and all that the environment says of proxies."""
    route = Connection.to(server.url or DEFAULT_URL, **server.connection).route
    hidden = {
        name: value if name.lower() in EXEMPTING_VARIABLES else shown(value) for name, value in variables().items()
    }
    told = [route.note or "none", *(f"{name}={ascii(value)[1:-1]}" for name, value in hidden.items())]
    return Finding("proxy", "ok" if route.proxy else "absent", "; ".join(told))


def _examine_server(server: Server) -> Finding:
    url = server.url or DEFAULT_URL
    subject = f"server {url}"
    try:
        with Client(url, **server.connection) as client:
            client.wait_until_ready(timeout_s=READINESS_TIMEOUT_S)
            info = client.server_info()
            (phantom,) = make_phantoms(1)
            client.detect(phantom.image)  # The first is not the one to time.
            latency_s = client.detect(phantom.image).latency_s
    except ServerUnavailableError as error:
        if server.url is None:
            return Finding(subject, "absent", "none here: `gliogate serve` starts one, --url names another")
        return Finding(subject, "failed", str(error))
    except GliogateError as error:
        return Finding(subject, "failed", str(error))
    models = ", ".join(f"{model.name} {' '.join(model.versions)}" for model in info.models)
    [waiting] = [model.max_queue_size for model in info.models if model.name == ENSEMBLE.name]
    limits = f"up to {waiting} requests wait"
    gate = f"the gate opens from {info.operating_point.detection_threshold:g}"
    details = f"Triton {info.version}; {models}; {limits}; {gate}; a detection took {1000 * latency_s:.0f} ms"
    return Finding(subject, "ok", details)
