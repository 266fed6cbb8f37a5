"""Which proxy stands between a client and a server: none, unless one is asked for.

gRPC takes every proxy that the environment names, for this machine's own addresses too, and sends in clear text what
is no TLS. Here nothing is taken that was not asked for, and nothing is sent through a proxy in clear text.
"""

import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

ENVIRONMENT: Final = "environment"
"""What stands for a proxy where it is the one that the environment names."""

VARIABLES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
"""The environment variables that name one, as gRPC reads them: the first that is set counts, and may be empty."""

EXEMPTING_VARIABLES: Final = ("no_grpc_proxy", "no_proxy")
"""Those that name servers which are reached without one: addresses, networks, ends of names."""

_URL: Final = re.compile(
    r"http://(?P<user>[\w.~!$&'()*+,;=:%-]+@)?(?P<address>(\[[0-9A-Fa-f:.]+\]|[\w.-]+):(?P<port>\d{1,5}))/?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Route:
    """How a server is reached.

    Attributes:
        proxy: `http://[USER:PASSWORD@]HOST:PORT`; None for none. May be a secret.
        note: what is to be known of it, without secrets; empty where there is no proxy far and wide.
    """

    proxy: str | None = field(default=None, repr=False)
    note: str = ""

    @classmethod
    def to(cls, hosts: Sequence[str], proxy: str | None) -> "Route":
        """The way to one server, or to several.

        Args:
            hosts: names or addresses, without brackets.
            proxy: what was asked for: `http://[USER:PASSWORD@]HOST:PORT`, `environment`, or None.

        Raises:
            ValueError: the proxy is none that gRPC can use, or would have to lead to several servers.
        """
        variable, url = _named_by_environment() if proxy in (None, ENVIRONMENT) else ("", proxy)
        if url is None:
            return cls()
        name = f"the proxy {shown(str(url))}{f' of {variable}' if variable else ''}"
        if not variable:
            _checked(url, name)
        if all(map(is_loopback, hosts)):
            return cls(note=f"{name} is not used: there is none to this machine itself")
        if proxy is None:
            return cls(note=f"{name} is not used: proxy='{ENVIRONMENT}' or --proxy {ENVIRONMENT} asks for it")
        if all(map(_is_exempt, hosts)):
            return cls(note=f"{name} is not used: {' or '.join(variables(EXEMPTING_VARIABLES))} has this server")
        if len(hosts) > 1:
            raise ValueError(f"{name} would lead to one server, and several are named: {', '.join(hosts)}")
        return cls(proxy=_checked(url, name), note=f"through {name}")

    def channel_options(self) -> list[tuple[str, Any]]:
        """The options of gRPC's channel that say so."""
        # gRPC has another proxy yet, of environment variables of its own; the list of its servers is empty here.
        none = ("grpc.address_http_proxy_enabled_addresses", "")
        return [none, ("grpc.http_proxy", self.proxy) if self.proxy else ("grpc.enable_http_proxy", 0)]


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own by what it says; no name is looked up."""
    name = host.casefold().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address_of(name)
    return address is not None and (address.is_loopback or address.is_unspecified)


def shown(url: str) -> str:
    """A proxy's URL without user, password and all else that might be secret."""
    scheme = url[: url.find("://") + 3] if "://" in url else ""
    host = re.split("[/?#]", url.removeprefix(scheme).rpartition("@")[2], maxsplit=1)[0]
    return ascii(scheme + host)[1:-1]


def variables(names: Sequence[str] = (*VARIABLES, *EXEMPTING_VARIABLES)) -> dict[str, str]:
    """The environment's variables about proxies that are set; gRPC reads the lower case alone, others both."""
    both = [spelled for name in names for spelled in (name, name.upper())]
    return {name: os.environ[name] for name in both if name in os.environ}


def _named_by_environment() -> tuple[str, str | None]:
    """The first variable that is set, and the proxy that it names; None for none."""
    name, url = next(iter(variables(VARIABLES).items()), ("", None))
    return name, url or None


def _checked(url: Any, name: str) -> str:
    """A proxy's URL as gRPC takes it; with any other it would say so in a log, and use none."""
    parts = _URL.fullmatch(url) if isinstance(url, str) else None
    if not parts or int(parts["port"]) > 65535:
        raise ValueError(
            f"{name} is none that gRPC takes: expected http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, "
            "user and password percent-encoded"
        )
    return f"http://{parts['user'] or ''}{parts['address']}"


def _is_exempt(host: str) -> bool:
    """Whether a server is reached without a proxy, by what gRPC takes such lists for and the usual `*`."""
    address = _address_of(host)
    for value in variables(EXEMPTING_VARIABLES).values():
        for entry in filter(None, map(str.strip, value.casefold().split(","))):
            if entry == "*" or f".{host.casefold()}".endswith(entry):
                return True
            if address is not None and _holds(entry, address):
                return True
    return False


def _holds(network: str, address: IPv4Address | IPv6Address) -> bool:
    try:
        return address in ip_network(network, strict=False)
    except ValueError:
        return False


def _address_of(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(host))  # As resolvers read 127.1 and 0x7f000001.
        except (OSError, ValueError):
            return None
    return getattr(address, "ipv4_mapped", None) or address
