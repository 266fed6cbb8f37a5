"""`make bench`: the served ensemble against its own engines called in one process, the limit that no server can pass.

The rows take turns, round by round, on the same slices, at 35% prevalence. Writes `build/bench/bench.json`.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gliogate import Client
from gliogate.contract import DETECTOR, ENSEMBLE, IMAGE, SEGMENTER, Model
from gliogate.embedded import EmbeddedServer, find_model_repository
from gliogate.phantom import make_phantoms

SLICES = 192
PREVALENCE = 0.35
ROUNDS = 5
IN_FLIGHT = (1, 4, 16, 64)
BATCH_SIZES = (1, 4, 16)
OUTPUT = Path("build/bench/bench.json")

Images = NDArray[np.uint8]


def main() -> None:
    """Measures, prints a table, writes the JSON."""
    repository = find_model_repository(None)
    images = np.stack([p.image for p in make_phantoms(SLICES, prevalence=PREVALENCE, seed=99)])
    engines = Engines(repository)
    with EmbeddedServer(repository) as server, Client(server.url) as client:
        rows: dict[str, Callable[[], int]] = {
            f"in process, batches of {size}": lambda size=size: engines.run(images, size) for size in BATCH_SIZES
        }
        for count in IN_FLIGHT:
            rows[f"served, {count} in flight"] = lambda count=count: _ask(client, images, count)
        for run in rows.values():
            run()
        rates: dict[str, list[float]] = {name: [] for name in rows}
        for name, run in track(list(_rounds(rows)), "measuring", transient=True):
            start = time.perf_counter()
            run()
            rates[name].append(len(images) / (time.perf_counter() - start))
        opened = rows["served, 16 in flight"]()
    _report(rates, opened)


class Engines:
    """Detector, decision and segmenter in this process, without a server."""

    def __init__(self, repository: Path) -> None:
        newest = max(int(path.name) for path in (repository / ENSEMBLE.name).iterdir() if path.name.isdecimal())
        point = json.loads((repository / ENSEMBLE.name / str(newest) / "operating_point.json").read_text())
        self.detection_threshold, self.mask_threshold = point["detection_threshold"], point["mask_threshold"]
        self.detector, self.segmenter = (_session(repository, model, newest) for model in (DETECTOR, SEGMENTER))

    def run(self, images: Images, batch_size: int) -> int:
        """Masks for all slices; returns how many were segmented."""
        answers = [self.detector.run(None, {IMAGE.name: batch})[0] for batch in _cut(images, batch_size)]
        probability = np.concatenate(answers)
        passed = images[probability[:, 0] >= self.detection_threshold]
        for batch in _cut(passed, batch_size):
            (self.segmenter.run(None, {IMAGE.name: batch})[0] >= self.mask_threshold).astype(np.uint8)
        return len(passed)


def _session(repository: Path, model: Model, version: int) -> onnxruntime.InferenceSession:
    path = repository / model.name / str(version) / "model.onnx"
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def _cut(images: Images, size: int) -> Iterator[Images]:
    return (images[start : start + size] for start in range(0, len(images), size))


def _ask(client: Client, images: Images, in_flight: int) -> int:
    return sum(analysis.segmented for analysis in client.analyze_many(images, in_flight=in_flight, timeout_s=300))


def _rounds(rows: dict[str, Callable[[], int]]) -> Iterator[tuple[str, Callable[[], int]]]:
    for _ in range(ROUNDS):
        yield from rows.items()


def _report(rates: dict[str, list[float]], opened: int) -> None:
    limit = max(statistics.median(values) for name, values in rates.items() if name.startswith("in process"))
    rows = [
        {
            "name": name,
            "images_per_s": statistics.median(values),
            "spread": (min(values), max(values)),
            "ratio_to_limit": statistics.median(values) / limit,
        }
        for name, values in rates.items()
    ]
    table = Table("row", "slices/s", "lowest to highest", "of the limit")
    for row in rows:
        spread = " to ".join(f"{rate:.1f}" for rate in row["spread"])
        table.add_row(row["name"], f"{row['images_per_s']:.1f}", spread, f"{row['ratio_to_limit']:.2f}")
    Console().print(table)
    print(f"{SLICES} slices, {round(SLICES * PREVALENCE)} with tumor, the gate opened for {opened}; {ROUNDS} rounds")
    report = {"slices": SLICES, "prevalence": PREVALENCE, "opened": opened, "rows": rows}
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
