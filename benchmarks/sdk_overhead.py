"""`python -m benchmarks.sdk_overhead`: what gliogate's client costs on top of NVIDIA's.

The same slices are asked about through both, in rounds in which all ways of asking take turns, in an order that is
drawn anew each time; a difference or ratio is of the same round. CPU time is that of this process with all its threads,
not the server's: on a busy machine it tells more than the clock does.

Prints tables, and writes `build/bench/sdk_overhead.json`.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

from benchmarks.goals import IN_FLIGHT, PREVALENCE
from benchmarks.pair import Images
from benchmarks.workload import Workload
from gliogate import AsyncClient, Client
from gliogate.contract import ENSEMBLE, GATE, IMAGE, SEGMENTED, TUMOR_MASK, TUMOR_PROBABILITY, Tensor
from gliogate.embedded import EmbeddedServer, find_model_repository
from gliogate.volumes import VolumeAnalysis, read_volume

Way = Callable[[], object]

OUTPUTS = {"analyze": (TUMOR_PROBABILITY, TUMOR_MASK, SEGMENTED), "detect": (TUMOR_PROBABILITY, SEGMENTED)}
TIMEOUT_S = 60.0
IMPORTS = 5
VOLUMES = 3
"""How often a package is imported, and a volume analyzed."""

_IMPORT = "import time; w, c = time.perf_counter(), time.process_time(); import {}; "
_IMPORT += "print(time.perf_counter() - w, time.process_time() - c)"


@dataclass
class Cost:
    """What a way takes, round by round: seconds of this process's CPU, and by the clock."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts what is done in the context as one round."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu_s.append(time.process_time() - cpu)
        self.wall_s.append(time.perf_counter() - wall)


class Bare:
    """NVIDIA's client, one for each thread, with nothing around it."""

    def __init__(self, url: str, threads: int) -> None:
        self._clients = [InferenceServerClient(url) for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads)

    def ask(self, image: Images, kind: str = "analyze", *, client: int = 0) -> list[NDArray[Any]]:
        """Asks about a slice (256, 256, 3) as gliogate's client does."""
        outputs: tuple[Tensor, ...] = OUTPUTS[kind]
        tensor = InferInput(IMAGE.name, (1, *IMAGE.shape), IMAGE.dtype)
        tensor.set_data_from_numpy(image[np.newaxis])
        answer = self._clients[client].infer(
            ENSEMBLE.name,
            [tensor],
            outputs=[InferRequestedOutput(output.name) for output in outputs],
            request_id=uuid.uuid4().hex,
            client_timeout=TIMEOUT_S,
            timeout=round(1e6 * TIMEOUT_S),
            parameters={GATE: "auto"} if kind == "analyze" else None,
        )
        return [answer.as_numpy(output.name) for output in outputs]

    def ask_all(self, images: Images) -> None:
        """Asks about each slice, from all threads."""
        threads = len(self._clients)

        def ask(client: int) -> None:
            for image in images[client::threads]:
                self.ask(image, client=client)

        list(self._pool.map(ask, range(threads)))

    def close(self) -> None:
        """Ends threads and connections."""
        self._pool.shutdown()
        for client in self._clients:
            client.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the tables, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sdk_overhead", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="how often every way of asking has its turn")
    parser.add_argument("--calls", type=int, default=4, help="how many calls a turn is, one after the other")
    parser.add_argument(
        "--slices", type=int, default=200, help="of a turn with several requests under way, and a volume"
    )
    parser.add_argument("--model-repository", type=Path, help="another one than this checkout's")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="the folder for files")
    options = parser.parse_args(arguments)
    images = Workload.draw(options.slices, PREVALENCE).images
    options.output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer(find_model_repository(options.model_repository)))
        client = stack.enter_context(Client(server.url))
        bare = Bare(server.url, IN_FLIGHT)
        stack.callback(bare.close)
        loop = stack.enter_context(asyncio.Runner())
        other = AsyncClient(server.url)
        stack.callback(lambda: loop.run(other.close()))
        single = _measure(_one_by_one(bare, client, other, loop, images[: options.calls]), options.rounds)
        many_rounds = max(1, options.rounds // 10)
        many = _measure(_all_at_once(bare, client, other, loop, images), many_rounds)
        volume = _volume(bare, client, images, options.output / "volume.npy", min(VOLUMES, options.rounds))
    report = {
        "calls": _rows(single, options.calls),
        "many": _rows(many, options.slices),
        "import_s": {name: _import_s(name) for name in ("gliogate", "tritonclient.grpc")},
        "volume_s": {name: median(cost.wall_s) for name, cost in volume.items()},
        "volume_cpu_s": {name: median(cost.cpu_s) for name, cost in volume.items()},
    }
    (options.output / "sdk_overhead.json").write_text(json.dumps(report, indent=2) + "\n")
    _show(report, Console())


def _one_by_one(
    bare: Bare, client: Client, other: AsyncClient, loop: asyncio.Runner, images: Images
) -> dict[str, Mapping[str, Way]]:
    large = np.repeat(np.repeat(images[..., 1], 2, axis=1), 2, axis=2)

    async def analyze_all() -> None:
        for image in images:
            await other.analyze(image)

    return {
        "bare": {
            "bare": lambda: [bare.ask(image) for image in images],
            "analyze": lambda: [client.analyze(image) for image in images],
            "analyze, AsyncClient": lambda: loop.run(analyze_all()),
            "analyze, grey 512 x 512": lambda: [client.analyze(image) for image in large],
        },
        "bare, detection": {
            "bare, detection": lambda: [bare.ask(image, "detect") for image in images],
            "detect": lambda: [client.detect(image) for image in images],
        },
    }


def _all_at_once(
    bare: Bare, client: Client, other: AsyncClient, loop: asyncio.Runner, images: Images
) -> dict[str, Mapping[str, Way]]:
    reference = f"bare, {IN_FLIGHT} threads"

    async def analyze_many() -> None:
        async for _ in other.analyze_many(images, in_flight=IN_FLIGHT):
            pass

    return {
        reference: {
            reference: lambda: bare.ask_all(images),
            "analyze_many": lambda: list(client.analyze_many(images, in_flight=IN_FLIGHT)),
            "analyze_many, AsyncClient": lambda: loop.run(analyze_many()),
        }
    }


def _measure(groups: Mapping[str, Mapping[str, Way]], rounds: int) -> dict[str, dict[str, Cost]]:
    """Measures groups of ways, each by the name of the way that the others of it are held against."""
    costs = {reference: {name: Cost() for name in ways} for reference, ways in groups.items()}
    turns = [(costs[reference][name], way) for reference, ways in groups.items() for name, way in ways.items()]
    for _, way in turns:
        way()
    for _ in track(range(rounds), "asking", transient=True):
        for cost, way in random.sample(turns, len(turns)):
            with cost.counting():
                way()
    return costs


def _rows(costs: Mapping[str, Mapping[str, Cost]], slices: int) -> dict[str, dict[str, float]]:
    """Medians over the rounds, of one slice."""
    return {
        name: {
            "cpu_ms": _ms(cost.cpu_s, slices),
            "cpu_over_bare_ms": _ms(np.subtract(cost.cpu_s, ways[reference].cpu_s), slices),
            "wall_ms": _ms(cost.wall_s, slices),
            "rate_of_bare": float(np.median(np.divide(ways[reference].wall_s, cost.wall_s))),
        }
        for reference, ways in costs.items()
        for name, cost in ways.items()
    }


def _ms(seconds: Sequence[float] | NDArray[np.float64], slices: int) -> float:
    return 1e3 * float(np.median(seconds)) / slices


def _volume(bare: Bare, client: Client, images: Images, path: Path, rounds: int) -> dict[str, Cost]:
    """A volume from its file to its analysis, and the parts of that: each by itself, asking with the bare client."""
    np.save(path, images)
    costs = {name: Cost() for name in ("reading", "asking", "putting together", "analyze_volume")}
    analyses = list(client.analyze_many(images))
    for _ in track(range(rounds), "volume", transient=True):
        with costs["reading"].counting():
            head = read_volume(path)
        with costs["asking"].counting():
            bare.ask_all(head.slices)
        with costs["putting together"].counting():
            VolumeAnalysis.of(head, analyses)
        with costs["analyze_volume"].counting():
            client.analyze_volume(path)
    return costs


def _import_s(package: str) -> dict[str, float]:
    command = [sys.executable, "-c", _IMPORT.format(package)]
    told = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(IMPORTS)]
    wall, cpu = zip(*(map(float, line.split()) for line in told), strict=True)
    return {"cpu": median(cpu), "wall": median(wall)}


def _show(report: dict[str, Any], console: Console) -> None:
    for title, rows in (("one at a time", report["calls"]), (f"{IN_FLIGHT} under way", report["many"])):
        table = Table(f"a slice, {title}", "CPU ms", "over bare, CPU ms", "ms", "rate, of bare")
        for name, row in rows.items():
            figures = (row["cpu_ms"], row["cpu_over_bare_ms"], row["wall_ms"], row["rate_of_bare"])
            table.add_row(name, *(f"{figure:.2f}" for figure in figures))
        console.print(table)
    table = Table("a volume", "CPU s", "s")
    for name, seconds in report["volume_s"].items():
        table.add_row(name, f"{report['volume_cpu_s'][name]:.2f}", f"{seconds:.2f}")
    console.print(table)
    table = Table("import", "CPU s", "s")
    for name, seconds in report["import_s"].items():
        table.add_row(name, f"{seconds['cpu']:.2f}", f"{seconds['wall']:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
