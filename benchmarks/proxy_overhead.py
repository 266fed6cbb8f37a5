"""`python -m benchmarks.proxy_overhead`: what the proxy before the embedded Triton costs.

The same slices are asked about through it and at Triton's own socket, by NVIDIA's client, in turns; a ratio is of the
same round. Prints a table, and writes `build/bench/proxy_overhead.json`.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.goals import IN_FLIGHT, PREVALENCE
from benchmarks.sdk_overhead import Bare
from benchmarks.workload import Workload
from gliogate.embedded import EmbeddedServer, find_model_repository


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxy_overhead", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="how often both have their turn (%(default)s)")
    parser.add_argument("--slices", type=int, default=96, help="of a turn (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="the folder for the file")
    options = parser.parse_args(arguments)
    images = Workload.draw(options.slices, PREVALENCE).images
    report = {}
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer(find_model_repository()))
        for in_flight in (1, IN_FLIGHT):
            ways = {"Triton's socket": Bare(server.triton_url, in_flight), "the proxy": Bare(server.url, in_flight)}
            for way in ways.values():
                stack.callback(way.close)
                way.ask_all(images)  # The first is not the one to time.
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for _ in track(range(options.rounds), f"{in_flight} in flight", console=Console(stderr=True)):
                for name, way in random.sample([*ways.items()], len(ways)):
                    start = time.perf_counter()
                    way.ask_all(images)
                    rates[name].append(len(images) / (time.perf_counter() - start))
            ratios = [proxied / bare for bare, proxied in zip(*rates.values(), strict=True)]
            report[str(in_flight)] = {
                "rates": {name: median(values) for name, values in rates.items()},
                "ratio": median(ratios),
                "ratio_quartiles": [quantiles(ratios, n=4)[index] for index in (0, 2)] if len(ratios) > 1 else [],
            }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "proxy_overhead.json").write_text(json.dumps(report, indent=2) + "\n")
    table = Table("in flight", "slices/s at Triton's socket", "through the proxy", "ratio", "quartiles")
    for in_flight_text, row in report.items():
        rates_text = [f"{rate:.1f}" for rate in row["rates"].values()]  # type: ignore[attr-defined]
        spread = " to ".join(f"{value:.2f}" for value in row["ratio_quartiles"])  # type: ignore[attr-defined]
        table.add_row(in_flight_text, *rates_text, f"{row['ratio']:.2f}", spread)
    Console().print(table)


if __name__ == "__main__":
    main()
