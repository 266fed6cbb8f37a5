"""What a Keras network says of any number of slices."""

import keras
import numpy as np
from numpy.typing import NDArray

BATCH_SIZE = 32


def predict(network: keras.Model, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]] | NDArray[np.float32]:
    """The outputs for slices (N, H, W, 3), in the structure that the network gives them in.

    Not `Model.predict`, for the same reason as in `training.fit`.
    """
    starts = range(0, len(images), BATCH_SIZE)
    parts = [network.predict_on_batch(images[start : start + BATCH_SIZE]) for start in starts]
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
