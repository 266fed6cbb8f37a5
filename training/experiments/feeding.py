"""`python -m training.experiments.feeding`: whether batches are prepared faster than a network takes them.

The same epoch of phantoms is prepared alone, and then prepared while the flagship trains on it, for each of its phases.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import keras
from rich.console import Console
from rich.table import Table

from training.batches import EpochBatches
from training.data import phantoms
from training.devices import precision_of
from training.fit import build
from training.recipes import DEFAULT, find

SLICES = 480
WARM_UP = 5
"""Steps in which the network is compiled."""


class Clock(keras.callbacks.Callback):
    """When each step ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        self.ends.append(time.perf_counter())


def main() -> None:
    """Measures, and prints a table."""
    recipe = find(DEFAULT)
    precision = precision_of(recipe)
    keras.mixed_precision.set_dtype_policy(precision)
    dataset, none = phantoms(SLICES, prevalence=0.5, seed=1), phantoms(2, prevalence=0.5, seed=2)
    workers = len(os.sched_getaffinity(0))
    table = Table("stage", "shown at", "prepared alone, slices/s", "trained on, slices/s", "of what could be prepared")
    shown = [(name, stage, phase) for name, stage in recipe.stages.items() for phase in stage.phases]
    for name, stage, phase in shown:
        batches = EpochBatches(dataset, none, stage, phase, workers=workers)
        start = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            prepared = sum(len(images) for images, _ in pool.map(batches.__getitem__, range(len(batches))))
        alone = prepared / (time.perf_counter() - start)

        clock = Clock()
        network = build(stage, steps_per_epoch=len(batches))
        network.fit(batches, shuffle=False, verbose=0, callbacks=[clock])
        steps = clock.ends[WARM_UP:]
        trained = stage.batch_size * (len(steps) - 1) / (steps[-1] - steps[0])
        size = f"{phase.size} x {phase.size}"
        table.add_row(name, size, f"{alone:.0f}", f"{trained:.0f}", f"{trained / alone:.0%}")
    Console().print(f"{recipe.name}, {workers} workers, Keras on {keras.backend.backend()} in {precision}", table)


if __name__ == "__main__":
    main()
