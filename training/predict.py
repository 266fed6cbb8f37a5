"""What a Keras network says of any number of slices."""

from operator import itemgetter
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

BATCH_SIZE = 32


def predict(network: keras.Model, images: NDArray[np.uint8]) -> Any:
    """The outputs for slices (N, H, W, 3), float32, in the structure that the network gives them in.

    Not `Model.predict`: after each call TensorFlow waits, doing nothing, for a thread that tunes its input pipeline and
    sleeps for up to a minute.
    """
    parts = []
    for start in range(0, len(images), BATCH_SIZE):
        # A copy: the images may be a view of a file, which TensorFlow takes for its own.
        batch = np.array(images[start : start + BATCH_SIZE])
        # Of several devices, each says it of the whole batch, one after the other.
        said = network.predict_on_batch(batch)
        parts.append(keras.tree.map_structure(itemgetter(slice(len(batch))), said))
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
