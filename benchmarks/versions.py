"""`python -m benchmarks.versions OLD NEW`: what a gated slice takes of two versions' networks, in turns.

OLD and NEW are model repositories, one of them that of a `git worktree` as a rule; of each the newest version is taken,
in the files and the engine that a CPU is served. A gated slice takes the detector, and the segmenter's time by the
share of slices at which the gate opens.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.pair import OURS, open_network
from gliogate.contract import DETECTOR, SEGMENTER
from training.data import phantoms
from training.metadata import newest_metadata

BATCH = 8
"""As the gate has it on a CPU."""

SEED = 11


def main(arguments: Sequence[str] | None = None) -> None:
    """Times the networks, and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions", description=__doc__.partition("\n")[0])
    parser.add_argument("repositories", nargs=2, type=Path, metavar="REPOSITORY")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--prevalence", type=float, default=0.35, help="share of the slices at which the gate opens")
    options = parser.parse_args(arguments)
    images = phantoms(BATCH, prevalence=0.5, seed=SEED).images
    sides = [_networks(repository) for repository in options.repositories]
    seconds: list[dict[str, list[float]]] = [{name: [] for name in networks} for _, networks in sides]
    for _ in range(options.rounds):
        for (_, networks), times in zip(sides, seconds, strict=True):
            for name, network in networks.items():
                begin = time.perf_counter()
                network(images)
                times[name].append(time.perf_counter() - begin)
    gated = [
        [one + options.prevalence * other for one, other in zip(*times.values(), strict=True)] for times in seconds
    ]
    print("| ms a slice | detector | segmenter | gated |\n|---|---|---|---|")
    for (name, _), times, both in zip(sides, seconds, gated, strict=True):
        print(f"| {name} | " + " | ".join(_ms(each) for each in (*times.values(), both)) + " |")
    ratios = [new / old for old, new in zip(*gated, strict=True)]
    low, high = np.quantile(ratios, [0.05, 0.95])
    print(
        f"\nratio of a gated slice, in the median of {options.rounds} rounds: {statistics.median(ratios):.2f}", end=""
    )
    print(f" ({low:.2f} to {high:.2f} in nine of ten)")


def _networks(repository: Path) -> tuple[str, dict[str, object]]:
    version, _ = newest_metadata(repository)
    networks = {
        model.name: open_network(str(repository / model.name / str(version) / "model_cpu.onnx"), OURS)
        for model in (DETECTOR, SEGMENTER)
    }
    for network in networks.values():
        network(np.zeros((BATCH, 256, 256, 3), np.uint8))
    return f"version {version}", networks


def _ms(times: Sequence[float]) -> str:
    return f"{1000 * statistics.median(times) / BATCH:.2f}"


if __name__ == "__main__":
    main()
