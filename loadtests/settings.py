"""What a load test is told: one set of options, of which Locust's command line has some too."""

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gliogate import TLS
from gliogate.connection import DEFAULT_URL, URL_VARIABLE, target_of
from gliogate.wire import MAX_TIMEOUT_S
from loadtests.arrivals import Process
from loadtests.errors import SettingsError
from loadtests.payloads import Phantoms, Pictures

TOKEN_VARIABLE: Final = "GLIOGATE_TOKEN"  # noqa: S105  the variable's name
"""The environment variable that holds the token, which has no place on a command line."""

HTTP_PORT, METRICS_PORT = 8000, 8002

_MOST: Final = {
    "rate": 1_000_000,
    "users": 100_000,
    "duration_s": 7 * 86_400,
    "timeout_s": round(MAX_TIMEOUT_S),
    "pool": 100_000,
    "late_ms": 60_000,
}
"""What numbers that are above 0 may be at most: beyond is a slip, and would take all memory before anything is sent."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a load test is told; every number is in range.

    Attributes:
        url: HOST:PORT of Triton's gRPC endpoint.
        protocol: what the requests go over.
        http_url: HOST:PORT of its HTTP endpoint.
        metrics_url: the page with its metrics; where `url` is several addresses, as many with commas between, or one
            that is the same page of each of their hosts.
        ca: a PEM file of the authorities that its certificate has to come from; clear text where it is None.
        token: sent with every request, over TLS.
        timeout_s: how long an answer may take, and the server to be ready, in seconds.
        rate: arrivals a second of open loops; None for the scenario's own.
        users: of closed loops; None for the scenario's own.
        duration_s: seconds of the scenario; None for its own.
        process: how arrivals are spaced.
        prevalence: shares of the phantoms that show tumor, a scenario is run for each; None for `payloads`.
        payloads: a folder of pictures to send in place of phantoms.
        pool: how many phantoms are drawn.
        seed: of everything that is drawn.
        late_ms: by how much the 99th percentile of the requests may be sent late, before a run is invalid.
    """

    url: str = DEFAULT_URL
    protocol: Literal["grpc", "http"] = "grpc"
    http_url: str = ""
    metrics_url: str = ""
    ca: Path | None = None
    token: str | None = None
    timeout_s: float = 10.0
    rate: float | None = None
    users: int | None = None
    duration_s: float | None = None
    process: Process = "poisson"
    prevalence: tuple[float | None, ...] = (0.35,)
    payloads: Path | None = None
    pool: int = 128
    seed: int = 0
    late_ms: float = 10.0

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Settings":
        """What `add_arguments` made of a command line.

        Raises:
            SettingsError: a value is out of range; names the option, what was found and what was expected.
        """
        named = {name: getattr(arguments, name) for name in cls.__dataclass_fields__ if hasattr(arguments, name)}
        given = {name: value for name, value in named.items() if value not in (None, "")}
        # Locust's web UI hands over what was typed in.
        for name, number in _NUMBERS.items():
            if isinstance(given.get(name), str):
                try:
                    given[name] = number(given[name])
                except ValueError as error:
                    raise SettingsError(f"{OPTIONS[name]} is {given[name]!r}, expected a number") from error
        # Locust could not send a path to its workers, so on its command line it is a text.
        given |= {name: Path(given[name]) for name in ("ca", "payloads") if name in given}
        for name, most in _MOST.items():
            if name in given and not 0 < given[name] <= most:
                told = f"{OPTIONS.get(name, '--users')} is {given[name]:g}"
                raise SettingsError(f"{told}, expected above 0 and at most {most:,}")
        if given.get("seed", 0) < 0:
            raise SettingsError(f"--seed is {given['seed']}, expected 0 or more")
        if "payloads" in given and "prevalence" in given:
            raise SettingsError("--prevalence is of phantoms; the pictures of --payloads have the one that they have")
        given["prevalence"] = (None,) if "payloads" in given else _prevalences(str(given.get("prevalence", "0.35")))
        url = given.setdefault("url", os.environ.get(URL_VARIABLE, DEFAULT_URL))
        try:
            target_of(url)
        except ValueError as error:
            raise SettingsError(f"--url: {error}") from error
        host = url.split(",")[0].removeprefix("dns:///").rpartition(":")[0]
        given["http_url"] = str(given.get("http_url", f"{host}:{HTTP_PORT}")).removeprefix("http://")
        pages = given.setdefault("metrics_url", f"http://{host}:{METRICS_PORT}/metrics").count(",") + 1
        if pages not in (1, servers := url.count(",") + 1):
            raise SettingsError(f"--metrics-url has {pages} pages, expected one, or as many as --url has: {servers}")
        token = os.environ.get(TOKEN_VARIABLE) or None
        if token and "ca" not in given:
            raise SettingsError(f"there is a token in {TOKEN_VARIABLE}, which goes over TLS only: give --ca too")
        return cls(**given, token=token)

    def tls(self) -> TLS | None:
        """How the connection is encrypted.

        Raises:
            SettingsError: the file of authorities cannot be used.
        """
        try:
            return TLS(root_certificates=self.ca) if self.ca else None
        except ValueError as error:
            raise SettingsError(f"--ca: {error}") from error

    def source(self) -> Phantoms | Pictures:
        """What the requests hold."""
        return Pictures(self.payloads) if self.payloads else Phantoms(self.pool, self.seed)

    @property
    def shared(self) -> dict[str, str]:
        """What every process of a test has to be told alike, by option: what is sent, and how long is waited.

        Not where the server is, which each machine may know by another name, nor where the pictures are.
        """
        told = {OPTIONS[name]: str(getattr(self, name)) for name in ("protocol", "timeout_s", "seed")}
        return told | {"--payloads": "given" if self.payloads else "not given", "--pool": str(self.pool)}

    def to_json(self) -> dict[str, Any]:
        """As a report has it; of the token only that there was one."""
        told = {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}
        shares = [share for share in self.prevalence if share is not None]
        return told | {"prevalence": shares or None, "token": self.token is not None}


OPTIONS: Final = {
    "url": "--url",
    "protocol": "--protocol",
    "http_url": "--http-url",
    "metrics_url": "--metrics-url",
    "ca": "--ca",
    "timeout_s": "--timeout-s",
    "rate": "--rate",
    "duration_s": "--duration",
    "process": "--arrivals",
    "prevalence": "--prevalence",
    "payloads": "--payloads",
    "pool": "--pool",
    "seed": "--seed",
    "late_ms": "--late-ms",
}
"""The option of each setting; Locust has its own for users, and for the address."""

_NUMBERS: Final[dict[str, type[int] | type[float]]] = {
    "rate": float,
    "duration_s": float,
    "timeout_s": float,
    "late_ms": float,
    "pool": int,
    "seed": int,
}


_HELP: Final[dict[str, dict[str, Any]]] = {
    "url": {
        "metavar": "HOST:PORT",
        "help": f"gRPC address of the server (default: ${URL_VARIABLE}, or {DEFAULT_URL})",
    },
    "protocol": {"choices": ("grpc", "http"), "help": "what the requests go over (default: grpc)"},
    "http_url": {
        "metavar": "HOST:PORT",
        "help": f"HTTP address of the server (default: its host, port {HTTP_PORT})",
    },
    "metrics_url": {"metavar": "URL[,URL…]", "help": f"its metrics (default: its host, port {METRICS_PORT})"},
    "ca": {
        "metavar": "FILE",
        "help": f"authorities of its certificate: use TLS; a token comes from ${TOKEN_VARIABLE}",
    },
    "timeout_s": {
        "metavar": "S",
        "help": f"seconds an answer may take, and the server to be ready (default: {Settings.timeout_s:g})",
    },
    "rate": {"metavar": "R", "help": "arrivals a second, of an open loop (default: the scenario's)"},
    "duration_s": {"metavar": "S", "help": "seconds that the scenario takes (default: its own)"},
    "process": {"choices": ("poisson", "constant"), "help": "how arrivals are spaced (default: poisson)"},
    "prevalence": {
        "metavar": "P[,P…]",
        "help": "share of phantoms with tumor; a scenario runs for each (default: 0.35)",
    },
    "payloads": {"metavar": "DIR", "help": "send the pictures of this folder in place of phantoms"},
    "pool": {"metavar": "N", "help": f"phantoms that are drawn (default: {Settings.pool})"},
    "seed": {"metavar": "N", "help": "of all that is drawn (default: 0)"},
    "late_ms": {
        "metavar": "MS",
        "help": f"a run is invalid if 1%% of its requests were sent later than this (default: {Settings.late_ms:g})",
    },
}


def add_arguments(parser: Any, names: Iterable[str] = OPTIONS) -> None:
    """Adds the options of these settings. Without a default of theirs: `Settings` has it."""
    for name in names:
        kind = _NUMBERS.get(name, str)
        parser.add_argument(OPTIONS[name], dest=name, default=None, type=kind, **_HELP[name])


def _prevalences(text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(f"--prevalence is {text!r}, expected shares from 0 to 1 with commas between") from error
    for share in shares:
        if not 0 <= share <= 1:
            raise SettingsError(f"--prevalence is {share:g}, expected 0 to 1")
    return shares
