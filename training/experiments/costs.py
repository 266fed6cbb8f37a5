"""`python -m training.experiments.costs`: what a slice costs in the networks of every recipe.

The networks are as their recipes have them, untrained: weights cost the same whatever they have learned. They are
written in ONNX and in 32 bits, and timed in turns on this machine, in batches of 16. Writes `build/costs/costs.md`.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from gliogate.contract import IMAGE
from reports.frame import number
from training.calibration import MASK_KNOT, MaskScaling, PlattScaling
from training.data import phantoms
from training.experiments.courses import write_table
from training.export import giving_probabilities
from training.models.cost import multiply_adds
from training.networks import combined, untrained
from training.onnx_files import write_onnx
from training.predict import predict
from training.recipe import Recipe
from training.recipes import find, names

FOLDER = Path("build/costs")
PREVALENCE = 0.35
BATCH = 16
ROUNDS = 7


@dataclass(frozen=True)
class Cost:
    """What one network takes for a slice.

    Attributes:
        multiply_adds: of which it takes so many.
        session: computes it.
        seconds: that a batch took, round by round.
    """

    multiply_adds: int
    session: onnxruntime.InferenceSession
    seconds: list[float] = field(default_factory=list)

    def time(self, images: NDArray[np.uint8]) -> None:
        """Takes the time of a batch; that of the first, which touches the memory, does not count."""
        start = time.perf_counter()
        self.session.run(None, {IMAGE.name: images})
        self.seconds.append(time.perf_counter() - start)

    @property
    def ms(self) -> float:
        """The median over the rounds, for a slice."""
        return 1000 * statistics.median(self.seconds[1:]) / BATCH


@dataclass(frozen=True)
class Costs:
    """What a recipe's networks take.

    Attributes:
        parameters: of all its stages.
        detector: for a slice.
        segmenter: for a slice that passes.
    """

    parameters: int
    detector: Cost
    segmenter: Cost

    @property
    def gated_ms(self) -> float:
        """Where 35% of the slices pass."""
        return self.detector.ms + PREVALENCE * self.segmenter.ms


TABLE: dict[str, Callable[[Costs], str]] = {
    "parameters": lambda costs: f"{costs.parameters / 1e6:.1f} M",
    "billion multiply-adds: detector": lambda costs: number(costs.detector.multiply_adds / 1e9, 2),
    "segmenter": lambda costs: number(costs.segmenter.multiply_adds / 1e9, 2),
    "ms: detector": lambda costs: number(costs.detector.ms, 1),
    "ms: segmenter": lambda costs: number(costs.segmenter.ms, 1),
    "ms: a gated slice": lambda costs: number(costs.gated_ms, 1),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Times the networks, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=names(), metavar="NAME", help="default: all")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR", help="default: %(default)s")
    options = parser.parse_args(arguments)
    write_table(options.output / "costs.md", measured([find(name) for name in options.recipes]), TABLE)


def measured(recipes: Sequence[Recipe]) -> dict[str, Costs]:
    """What the networks of recipes take, by the recipe's name."""
    keras.mixed_precision.set_dtype_policy("float32")
    images = phantoms(BATCH, prevalence=0.5, seed=1).images
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        costs = {
            recipe.name: _opened(recipe, Path(folder) / recipe.name, images)
            for recipe in track(recipes, "writing", console=console, transient=True)
        }
        # In turns: whatever disturbs the machine disturbs all.
        for _ in track(range(1 + ROUNDS), "timing", console=console, transient=True):
            for of_recipe in costs.values():
                of_recipe.detector.time(images)
                of_recipe.segmenter.time(images)
    return costs


def _opened(recipe: Recipe, folder: Path, images: NDArray[np.uint8]) -> Costs:
    networks = untrained(recipe)
    parameters = sum(network.count_params() for network in networks.values())
    logits = combined(recipe, networks)
    sessions = []
    for model, network in giving_probabilities(
        *logits, PlattScaling(1.0, 0.0), MaskScaling(1.0, 0.0, 0.0, 0.0, MASK_KNOT)
    ).items():
        path = folder / model.name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        write_onnx(network, path, model, images[:1], predict(network, images[:1])[model.outputs[0].name])
        sessions.append(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))
    return Costs(parameters, *(Cost(multiply_adds(n), s) for n, s in zip(logits, sessions, strict=True)))


if __name__ == "__main__":
    main()
