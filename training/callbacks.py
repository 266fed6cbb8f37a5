"""What happens after each epoch, beside what Keras's own callbacks do."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from training.errors import TrainingError
from training.files import replacing

Validate = Callable[[keras.Model], dict[str, float]]
"""Figures of a network on slices that it does not learn from, each named `val_…`."""


def save(network: keras.Model, path: Path) -> None:
    """Writes a network with its optimizer."""
    network.save(path)


class Checkpoint(keras.callbacks.Callback):
    """Replaces a file by the network and its optimizer, in one step.

    It comes before `Averaged`, so that the weights are those that training goes on with; their average is among the
    optimizer's.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras.

        Raises:
            TrainingError: the loss is no number any more, or the file cannot be written; the checkpoint stays that of
                the epoch before.
        """
        if math.isnan((logs or {}).get("loss", 0.0)):
            raise TrainingError(f"{self.path}: the loss is not a number in epoch {epoch + 1}; lower the learning rate")
        with replacing(self.path) as partial:
            save(self.model, partial)


class Averaged(keras.callbacks.Callback):
    """Shows the callbacks after it the moving average of the weights, from an epoch's end until the next one begins.

    Keras's `SwapEMAWeights` lets a weight and its average share one array at the end, which JAX does not survive: it
    gives the arrays of a network away to each step.
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        self.weights = None
        # At the end of the phase before, Keras made the average the weights: they share arrays from then on.
        self.model.set_weights(self.model.get_weights())

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        if self.weights is not None:
            self.model.set_weights(self.weights)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        self.weights = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        self.model.set_weights(self.model.get_weights())


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras's own, which after an interruption still knows the best weights, and how long ago they were."""

    def __init__(self, path: Path, monitor: str, *, patience: int, epochs_done: int) -> None:
        """Takes up what an interrupted training knew.

        Args:
            path: the file that remembers it; replaced in one step whenever the figure is better.
            monitor: the figure, of which more is better.
            patience: epochs without a better one after which training stops.
            epochs_done: how many this training has behind it.
        """
        super().__init__(monitor, mode="max", patience=patience, restore_best_weights=True)
        self.path, self.epochs_done = path, epochs_done

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        super().on_train_begin(logs)
        if self.path.exists():
            with np.load(self.path) as known:
                self.best, self.best_epoch = float(known["best"]), int(known["epoch"])
                self.best_weights = [known[f"weight_{n}"] for n in range(len(self.model.weights))]
            self.wait = self.epochs_done - 1 - self.best_epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        super().on_epoch_end(epoch, logs)
        if self.best_epoch == epoch and self.best is not None:
            weights = {f"weight_{n}": weight for n, weight in enumerate(self.best_weights)}
            with replacing(self.path) as partial, partial.open("wb") as file:
                np.savez(file, best=self.best, epoch=epoch, **weights)


class Reseeded(keras.callbacks.Callback):
    """Draws dropout in each epoch from the seed and the epoch's number alone.

    Keras keeps the state of a network's random generators out of its file, so that a training that was interrupted
    would drop others than one that was not. It comes before the epoch's first step, where the variables of a network
    are in its own hands with JAX, too.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        states = [v for v in self.model.variables if v.name == "seed_generator_state"]
        rng = np.random.default_rng((self.seed, epoch))
        for state in states:
            state.assign(rng.integers(2**31, size=state.shape).astype(state.dtype))


class Validation(keras.callbacks.Callback):
    """Adds figures of other slices to the log: every so many epochs and after the last, in between NaN."""

    def __init__(self, validate: Validate, *, every: int, epochs: int) -> None:
        super().__init__()
        self.validate, self.every, self.epochs = validate, every, epochs
        self.names: list[str] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.epochs or not self.names:
            figures = self.validate(self.model)
            self.names = list(figures)
        else:
            figures = dict.fromkeys(self.names, float("nan"))
        if logs is not None:
            logs.update(figures)


class Seconds(keras.callbacks.Callback):
    """Adds to the log how long the epoch took, with what the callbacks before this one do after it."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        self.start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        if logs is not None:
            logs["seconds"] = time.monotonic() - self.start


class Progress(keras.callbacks.Callback):
    """A bar for each epoch on a terminal, and after it a line."""

    def __init__(self, name: str, epochs: int) -> None:
        super().__init__()
        self.name, self.epochs = name, epochs
        self.console = Console(stderr=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Bar(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.task = self.bar.add_task(f"{self.name}: epoch {epoch + 1} of {self.epochs}", total=self.params["steps"])
        self.bar.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        self.bar.advance(self.task)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self.bar.stop()
        logs = logs or {}
        told = {name: value for name, value in logs.items() if name == "loss" or name.startswith("val_")}
        figures = ", ".join(f"{name} {value:.4f}" for name, value in told.items() if not math.isnan(value))
        where = f"{time.strftime('%H:%M:%S')} {self.name}: epoch {epoch + 1} of {self.epochs}"
        self.console.print(f"{where} in {logs['seconds']:.0f} s: {figures}", highlight=False, soft_wrap=True)
