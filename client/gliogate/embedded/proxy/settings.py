"""What the proxy is told when it starts."""

from __future__ import annotations

import hmac
import json
from dataclasses import asdict, dataclass, field
from typing import Final, Self

NO_TOKEN: Final = "this server asks for a token, and for the right one"  # noqa: S105  none

MESSAGE_BYTES: Final = 50 * 2**20
"""The largest request: the most slices of a head that are taken, 256, are 48 MiB."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the proxy is told when it starts; it goes to its standard input, since command lines are public.

    Attributes:
        address: the numeric address to listen on, IPv4 or IPv6.
        grpc_port: 0 picks a free one; so do the next two.
        http_port: for health, and for inference if `http_inference`.
        metrics_port: for Prometheus.
        grpc_socket: Triton's Unix socket; so are the next two.
        http_socket: for health and inference.
        metrics_socket: for the metrics.
        http_inference: whether inference over HTTP is let through.
        probe: a file with a small request, that Triton is asked where others are not answered.
        token: what requests must carry, `authorization: Bearer TOKEN`; empty lets all in.
        certificate: the server's certificate, PEM; empty serves in clear text.
        private_key: its key, PEM.
        client_authority: who must have signed a client's certificate, PEM; empty asks for none.
        bytes_at_once: how many bytes of requests may be in Triton at a time; the rest waits here. None is any number.
        hold_s: how long, in seconds, a request waits for a Triton that is being started again; 0 fails it at once.
    """

    address: str
    grpc_port: int
    http_port: int
    metrics_port: int
    grpc_socket: str
    http_socket: str
    metrics_socket: str
    probe: str
    http_inference: bool = False
    token: str = field(default="", repr=False)
    certificate: str = ""
    private_key: str = field(default="", repr=False)
    client_authority: str = ""
    bytes_at_once: int | None = None
    hold_s: float = 0.0

    @classmethod
    def read(cls, line: str) -> Self:
        """Reads what `line` wrote."""
        return cls(**json.loads(line))

    def line(self) -> str:
        """All of it in one line."""
        return json.dumps(asdict(self)) + "\n"

    @property
    def host(self) -> str:
        """The address as it stands before a port."""
        return f"[{self.address}]" if ":" in self.address else self.address

    def lets_in(self, authorization: str | bytes) -> bool:
        """Whether a request with this header may enter."""
        if not self.token:
            return True
        found = authorization if isinstance(authorization, bytes) else authorization.encode(errors="replace")
        scheme, _, token = found.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token, self.token.encode())
