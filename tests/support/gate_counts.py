"""What the gate counts."""

import urllib.request

from support.waiting import settled


def counted(metrics_url: str) -> dict[str, float]:
    """The gate's own counters, by name and label, once they stand still."""

    def read() -> dict[str, float]:
        with urllib.request.urlopen(metrics_url, timeout=10) as page:
            lines = [line for line in page.read().decode().splitlines() if line.startswith("gliogate_")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    return settled(read)
