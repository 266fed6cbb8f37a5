"""The server under test, a process of its own: prints its addresses, then what befalls it, and ends with its input."""

import json
import sys
from pathlib import Path

from gliogate.embedded import EmbeddedServer

POLLING = ("--model-control-mode=poll", "--repository-poll-secs=1")


def main(repository: Path) -> None:
    """Serves until standard input ends."""
    with EmbeddedServer(repository, restart=True, on_event=tell, triton_arguments=POLLING) as server:
        tell(
            json.dumps(
                {
                    "url": server.url,
                    "http_url": server.http_url,
                    "metrics_url": server.metrics_url,
                    "triton_url": server.triton_url,
                }
            )
        )
        sys.stdin.read()


def tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
