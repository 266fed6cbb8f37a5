"""Early stopping, in one go and with an interruption."""

from pathlib import Path

import keras
import numpy as np
import pytest

from training.callbacks import EarlyStopping

FIGURES = (0.5, 0.7, 0.6, 0.65, 0.4, 0.9)
"""Of each epoch; the one after the best is never reached with a patience of 3."""


def go_on(path: Path, model: keras.Model, *, done: int, until: int) -> EarlyStopping:
    """Epochs `done` to `until`, each of which leaves its number in the weights; stops where it is told to."""
    callback = EarlyStopping(path, "val_dice", patience=3, epochs_done=done)
    callback.set_model(model)
    model.stop_training = False
    callback.on_train_begin()
    for epoch in range(done, until):
        model.set_weights([np.full_like(weight, epoch) for weight in model.get_weights()])
        callback.on_epoch_end(epoch, {"val_dice": FIGURES[epoch]})
        if model.stop_training:
            break
    return callback


@pytest.mark.parametrize("interrupted_after", [None, 1, 2, 3, 4])
def test_an_interruption_changes_neither_when_it_stops_nor_what_it_keeps(
    interrupted_after: int | None, tmp_path: Path
) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    if interrupted_after:
        go_on(tmp_path / "best.npz", model, done=0, until=interrupted_after)
        # What training goes on with is in the checkpoint; of the rest nothing is left but the file.
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    callback = go_on(tmp_path / "best.npz", model, done=interrupted_after or 0, until=len(FIGURES))
    callback.on_train_end()

    assert callback.stopped_epoch == 4
    assert all((weight == 1).all() for weight in model.get_weights())
