"""How a client reaches a server: addresses, TLS, retries, and what goes along with every call."""

import json
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, Unpack

import grpc

from gliogate.contract import QUEUE_SIZE
from gliogate.errors import AuthenticationError
from gliogate.proxies import Route

URL_VARIABLE: Final = "GLIOGATE_URL"
"""The environment variable that names the server where the caller names none."""

DEFAULT_URL: Final = "localhost:8001"

SERVICE: Final = "inference.GRPCInferenceService"
METHOD: Final = "ModelInfer"
"""What gRPC calls that which answers requests."""

_COMPRESSIONS: Final = {
    None: grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}
_MIB: Final = 2**20
_MOST_SERVERS: Final = 8
"""Whose queues one client may fill: each request under way takes up to a megabyte of its memory."""
_DNS: Final = "dns:///"
_ADDRESS: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s\[\]/:,]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, kw_only=True)
class TLS:
    """An encrypted connection, and who is at its ends.

    Attributes:
        root_certificates: a PEM file of the authorities that the server's certificate has to come from; gRPC's own
            list where it is None.
        certificate: a PEM file with the client's certificate, for servers that want one (mutual TLS).
        private_key: the PEM file of that certificate's key.
        server_name: the name in the server's certificate, where it is not the host in the address.

    Raises:
        ValueError: a file cannot be read, holds no PEM, or the key is not that of the certificate.
    """

    root_certificates: Path | str | None = None
    certificate: Path | str | None = None
    private_key: Path | str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("a certificate and its private_key go together")
        # gRPC itself would only say that nobody can be reached.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.root_certificates is not None:
            with _naming(self.root_certificates):
                context.load_verify_locations(self.root_certificates)
        if self.certificate is not None:
            with _naming(f"{self.certificate}, {self.private_key}"):
                context.load_cert_chain(self.certificate, self.private_key, password=_no_password)

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC encrypts with."""
        files = (self.root_certificates, self.private_key, self.certificate)
        return grpc.ssl_channel_credentials(*(None if file is None else Path(file).read_bytes() for file in files))


@contextmanager
def _naming(files: Path | str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # An ssl.SSLError is an OSError.
        raise ValueError(f"{files}: cannot be used for TLS: {error}") from error


def _no_password() -> str:
    raise ValueError("the private key is encrypted; give one that is not")


@dataclass(frozen=True, kw_only=True)
class Retries:
    """When a request is sent again: it found the server UNAVAILABLE, or ending and its models gone (NOT_FOUND).

    gRPC does it, within the request's deadline.

    Attributes:
        attempts: how often a request is sent at most, from 1 (no retries) to 5.
        initial_backoff_s: about how long to wait before the second attempt, in seconds; gRPC draws each wait at random.
        max_backoff_s: the longest wait.
        multiplier: by how much each wait is longer than the one before.
        budget: failures in a row, over all requests of the client, after half of which nothing is sent again until
            requests succeed: a server in trouble is not hit harder. From 1 to 1000.
    """

    attempts: int = 3
    initial_backoff_s: float = 0.1
    max_backoff_s: float = 1.0
    multiplier: float = 3.0
    budget: int = 100

    def __post_init__(self) -> None:
        _check("attempts", self.attempts, 1, 5)
        # Below this, gRPC 1.85 was seen to forget calls: they ended with their deadline.
        _check("initial_backoff_s", self.initial_backoff_s, 0.01, 3600)
        _check("max_backoff_s", self.max_backoff_s, self.initial_backoff_s, 3600)
        _check("multiplier", self.multiplier, 1, 1000)
        _check("budget", self.budget, 1, 1000)

    def service_config(self) -> dict[str, Any]:
        """The part of gRPC's service config that says so."""
        if self.attempts == 1:
            return {}
        policy = {
            "maxAttempts": self.attempts,
            "initialBackoff": f"{self.initial_backoff_s:g}s",
            "maxBackoff": f"{self.max_backoff_s:g}s",
            "backoffMultiplier": self.multiplier,
            # A Triton that ends unloads its models before it stops listening.
            "retryableStatusCodes": ["UNAVAILABLE", "NOT_FOUND"],
        }
        return {
            "methodConfig": [{"name": [{"service": SERVICE, "method": METHOD}], "retryPolicy": policy}],
            "retryThrottling": {"maxTokens": self.budget, "tokenRatio": 0.1},
        }


@dataclass(frozen=True, kw_only=True)
class Keepalive:
    """Pings that keep a quiet connection open, and find out that it is dead.

    Attributes:
        every_s: seconds without traffic until one is sent.
        timeout_s: seconds until one that is not answered ends the connection.
        when_idle: also while no request is under way. Servers may take many of these amiss.
    """

    every_s: float = 60.0
    timeout_s: float = 20.0
    when_idle: bool = False

    def __post_init__(self) -> None:
        _check("every_s", self.every_s, 1, 1e6)
        _check("timeout_s", self.timeout_s, 1, 1e6)


class ConnectionOptions(TypedDict, total=False):
    """What can be asked of a connection, by keyword.

    Attributes:
        tls: encrypt; the connection is in clear text where it is not given.
        token: sent as `authorization: Bearer <token>` with every call, over TLS only. A function is asked at each call,
            so that a token that expires can be replaced.
        metadata: gRPC metadata that goes along with every call; names in lower case, values in printable ASCII.
        compression: of what is sent, `gzip` or `deflate`. It seldom pays on a local network.
        retries: see `Retries`.
        keepalive: see `Keepalive`; no pings where it is not given.
        max_message_bytes: the largest message that is sent or taken, 64 MiB where it is not given.
        proxy: an HTTP proxy on the way to the server, `http://[USER:PASSWORD@]HOST:PORT`, or `environment` for the one
            that `grpc_proxy`, `https_proxy` or `http_proxy` names there, in lower or upper case. Without it there is
            none, whatever the environment says. It leads to one server, over TLS only. There is never one to this
            machine's own addresses (127.0.0.0/8, ::1, localhost; no name is looked up), nor to what `no_grpc_proxy` or
            `no_proxy` has.
    """

    tls: TLS | None
    token: str | Callable[[], str] | None
    metadata: Mapping[str, str]
    compression: Literal["gzip", "deflate"] | None
    retries: Retries
    keepalive: Keepalive | None
    max_message_bytes: int
    proxy: str | None


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where a server is and how it is talked to.

    Attributes:
        url: one address or several, as given.
        target: the same as gRPC has it. What follows is as in `ConnectionOptions`.
    """

    url: str
    target: str
    tls: TLS | None = None
    token: str | Callable[[], str] | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict)
    compression: Literal["gzip", "deflate"] | None = None
    retries: Retries = field(default_factory=Retries)
    keepalive: Keepalive | None = None
    max_message_bytes: int = 64 * _MIB
    proxy: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.token is not None and self.tls is None:
            raise ValueError("a token goes over TLS only: give tls=TLS() too")
        if self.compression not in _COMPRESSIONS:
            raise ValueError(f"compression is {self.compression!r}, expected 'gzip', 'deflate' or None")
        for name, value in self.metadata.items():
            if not re.fullmatch(r"[0-9a-z_.-]+", name) or name.startswith("grpc-"):
                raise ValueError(f"metadata {name!r}: expected lower-case letters, digits, '_', '-' and '.'")
            _check_value(f"the value of metadata {name!r}", value)
        if isinstance(self.token, str):
            _check_value("the token", self.token)
        _check("max_message_bytes", self.max_message_bytes, _MIB, 2**31 - 1)
        if self.route.proxy and self.tls is None:
            raise ValueError(f"{self.route.note}, which would see everything in clear text: give tls=TLS() too")

    @classmethod
    def to(cls, url: str | Sequence[str] | None, **options: Unpack[ConnectionOptions]) -> "Connection":
        """A connection to one server, or to several that share the requests.

        Args:
            url: see `target_of`; `GLIOGATE_URL` of the environment where it is None, and where that is unset or empty
                localhost:8001.
            **options: see `ConnectionOptions`.

        Raises:
            ValueError: an address or an option makes no sense.
        """
        if url is None:
            url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
        return cls(url=url if isinstance(url, str) else ",".join(url), target=target_of(url), **options)

    @property
    def is_balanced(self) -> bool:
        """Whether several servers may share the requests."""
        return self.target != self.url or self.target.startswith(_DNS)

    @property
    def most_in_flight(self) -> int:
        """How many requests are worth having under way at a time: as many as the servers let wait."""
        servers = _MOST_SERVERS if self.target.startswith(_DNS) else min(self.url.count(",") + 1, _MOST_SERVERS)
        return servers * QUEUE_SIZE

    @cached_property
    def route(self) -> Route:
        """How the servers are reached: through a proxy or, as a rule, without."""
        addresses = (address.removeprefix(_DNS) for address in self.url.split(","))
        return Route.to([address.rpartition(":")[0].strip("[]") for address in addresses], self.proxy)

    def channel_options(self) -> list[tuple[str, Any]]:
        """What gRPC's channel is made with."""
        config = self.retries.service_config()
        if self.is_balanced:
            config["loadBalancingConfig"] = [{"round_robin": {}}]
        options: list[tuple[str, Any]] = [
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            # gRPC sends again what a connection at its end did not take, if it has kept all of it.
            ("grpc.per_rpc_retry_buffer_size", self.max_message_bytes),
            # gRPC's own waits are made for data centers: up to 20 s to give up a connection, 120 s before the next try.
            # The longest, a fifth more by chance, is within what `Retries` wait in all where nothing else is said: or a
            # server that has come back would be taken for absent without being asked.
            ("grpc.min_reconnect_backoff_ms", 3000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 250),
            ("grpc.service_config", json.dumps(config)),
            *self.route.channel_options(),
        ]
        if self.keepalive:
            options += [
                ("grpc.keepalive_time_ms", round(1000 * self.keepalive.every_s)),
                ("grpc.keepalive_timeout_ms", round(1000 * self.keepalive.timeout_s)),
                ("grpc.keepalive_permit_without_calls", int(self.keepalive.when_idle)),
                ("grpc.http2.max_pings_without_data", 0),
                # gRPC has one ping under way at a time; for its own, which measures bandwidth, it would wait a minute.
                ("grpc.http2.ping_timeout_ms", round(1000 * self.keepalive.timeout_s)),
            ]
        if self.tls and self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options

    def channel(self, transport: Any) -> Any:
        """A channel of `grpc` or `grpc.aio`, which connects with the first call."""
        settings = {"options": self.channel_options(), "compression": _COMPRESSIONS[self.compression]}
        if self.tls:
            return transport.secure_channel(self.target, self.tls.credentials(), **settings)
        return transport.insecure_channel(self.target, **settings)

    def headers(self) -> dict[str, str]:
        """The metadata of one call.

        Raises:
            AuthenticationError: the token, asked for just now, is none that can be sent.
        """
        headers = dict(self.metadata)
        if self.token is not None:
            token = self.token() if callable(self.token) else self.token
            try:
                _check_value("the token", token)
            except ValueError as error:
                raise AuthenticationError(str(error), url=self.url, status="UNAUTHENTICATED") from None
            headers["authorization"] = f"Bearer {token}"
        return headers


def target_of(url: str | Sequence[str]) -> str:
    """The target that gRPC knows a server, or several, by.

    Args:
        url: `HOST:PORT`, with an IPv6 address in brackets; `dns:///HOST:PORT` for a name that stands for several
            servers, such as a headless service; or several addresses, in a sequence or between commas, all of them
            numeric. Several servers are asked in turn, and one that does not answer is passed by.

    Raises:
        ValueError: it is none of these; says which.
    """
    addresses = url.split(",") if isinstance(url, str) else list(url)
    if not addresses:
        raise ValueError("no address of a server: expected HOST:PORT, as in localhost:8001")
    found = [_ADDRESS.fullmatch(address.removeprefix(_DNS)) for address in addresses]
    for address, parts in zip(addresses, found, strict=True):
        if not parts or int(parts["port"]) > 65535:
            raise ValueError(
                f"{address!r} is no address of a gRPC endpoint: expected HOST:PORT, as in localhost:8001, "
                f"or {_DNS}HOST:PORT"
            )
    if len(addresses) == 1:
        return addresses[0]
    try:
        versions = {ip_address(parts["host"].strip("[]")).version for parts in found if parts}
    except ValueError as error:
        raise ValueError(f"{','.join(addresses)}: {error}; of names there can be one, {_DNS}HOST:PORT") from None
    if len(versions) > 1:
        raise ValueError(f"{','.join(addresses)}: IPv4 and IPv6 addresses do not mix")
    return f"ipv{versions.pop()}:{','.join(addresses)}"


def _check_value(name: str, value: str) -> None:
    """Refuses a value that gRPC would only call invalid once a call is made; it may be a secret, and is not shown."""
    if not isinstance(value, str) or not re.fullmatch(r"[ -~]*", value):
        raise ValueError(f"{name} cannot be sent: expected printable ASCII, no line breaks")


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value:g}, expected {least:g} to {most:g}")
