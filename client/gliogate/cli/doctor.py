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
from gliogate.connection import DEFAULT_URL
from gliogate.errors import GliogateError, ServerUnavailableError
from gliogate.phantom import make_phantoms
from gliogate.runs import Server, import_embedded

State = Literal["ok", "absent", "failed"]

STYLES: Final = {"ok": "green", "absent": "dim", "failed": "bold red"}

EXTRAS: Final = {
    "dicom": ("pydicom", "highdicom", "pylibjpeg", "openjpeg", "gdcm"),
    "nifti": ("nibabel",),
    "otel": ("opentelemetry",),
}
"""The modules that each extra brings; `embedded` looks after itself."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what.
        state: `absent` is what nobody has asked for and not there; only `failed` makes the exit code 1.
        details: what was found, and what to do about it.
    """

    subject: str
    state: State
    details: str


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
    for finding in examine(server):
        state = Text(f"{finding.state:<7}", STYLES[finding.state])
        console.print(state, Text(f"{finding.subject:<15} {finding.details}"), soft_wrap=True)
        failed |= finding.state == "failed"
    return not failed


def examine(server: Server) -> Iterator[Finding]:
    """Looks at one thing after the other."""
    yield Finding("gliogate", "ok", f"{version('gliogate')}, Python {platform.python_version()}, {platform.platform()}")
    for extra, modules in EXTRAS.items():
        yield _examine_extra(extra, modules)
    yield _examine_embedded(server)
    yield _examine_server(server)


def _examine_extra(extra: str, modules: tuple[str, ...]) -> Finding:
    subject, advice = f"extra {extra}", f"pip install 'gliogate[{extra}]'"
    absent = []
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            absent.append(error.name or module)
        except Exception as error:  # Whatever a broken library does when it is imported.
            return Finding(subject, "failed", f"{module} cannot be imported ({error}): {advice}")
    if absent:
        return Finding(subject, "absent", f"{', '.join(absent)} not installed: {advice}")
    return Finding(subject, "ok", ", ".join(modules))


def _examine_embedded(server: Server) -> Finding:
    try:
        embedded = import_embedded()
        from gliogate.embedded.installation import Installation

        Installation.find()
        repository = embedded.find_model_repository(server.model_repository)
        return Finding("extra embedded", "ok", f"serves {repository}")
    except GliogateError as error:
        # It is asked for where models are named and no server.
        return Finding("extra embedded", "failed" if server.model_repository else "absent", str(error))


def _examine_server(server: Server) -> Finding:
    url = server.url or DEFAULT_URL
    subject = f"server {url}"
    try:
        with Client(url, **server.connection) as client:
            client.wait_until_ready(timeout_s=0)
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
    limits = f"up to {info.models[-1].max_queue_size} requests wait"
    gate = f"the gate opens from {info.operating_point.detection_threshold:g}"
    details = f"Triton {info.version}; {models}; {limits}; {gate}; a detection took {1000 * latency_s:.0f} ms"
    return Finding(subject, "ok", details)
