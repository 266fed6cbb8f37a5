"""What happens around an epoch."""

from pathlib import Path

import keras
import numpy as np
import pytest

from training.callbacks import Checkpoint, Reseeded
from training.errors import TrainingError


def dropping() -> keras.Model:
    """A network that drops at random in two places."""
    image = keras.Input((4,))
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(4)(image))
    return keras.Model(image, keras.layers.Dropout(0.5)(x))


def states(epoch: int, *, seed: int = 3) -> list[list[int]]:
    callback = Reseeded(seed)
    callback.set_model(dropping())
    callback.on_epoch_begin(epoch)
    generators = [v for v in callback.model.variables if v.name == "seed_generator_state"]
    return [np.array(keras.ops.convert_to_numpy(state)).tolist() for state in generators]


def test_dropout_depends_on_seed_and_epoch_alone() -> None:
    first, second = states(1)
    assert first != second, "each place drops on its own"
    assert states(1) == [first, second]
    assert states(2) != [first, second]
    assert states(1, seed=4) != [first, second]


def test_a_full_disk_is_named_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux tells of it: without a name. A disk that is full cannot be had without root."""

    def full(_: keras.Model, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.callbacks.save", full)
    callback = Checkpoint(tmp_path / "stage.checkpoint.keras")
    callback.set_model(dropping())
    with pytest.raises(TrainingError, match=r"stage\.checkpoint\.keras: cannot be written: No space left on device"):
        callback.on_epoch_end(0, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []
