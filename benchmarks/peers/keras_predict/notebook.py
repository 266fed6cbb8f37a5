"""The notebook way: two Keras models and a loop of `predict` over slices, with no server at all.

Follows keras.io/api/models/model_training_apis (`predict`). The Keras files of what is served are not shipped, so these
are the networks of the flagship's recipe with the weights that it starts from: the same work, and answers that say
nothing. The loop is therefore told for which slices the gate opens.

A worker as `benchmarks.limit` is one, asked with `{"images": FILE.npy, "opened": [BOOL, …]}`.
"""

import json
import os
import sys
import time

import keras
import numpy as np

from gliogate.contract import CHANNELS, SLICE_SIZE
from training.models.mirrored import Mirrored
from training.networks import network_of
from training.recipes import DEFAULT, find

SHUT = -1
"""As `benchmarks.measured` has it."""


def main() -> None:
    """Answers until there is nothing more to read."""
    detector, segmenter = networks()
    # What Keras prints is not for who asks.
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        images, latencies, areas = np.load(question["images"]), [], []
        start = time.perf_counter()
        for image, opened in zip(images, question["opened"], strict=True):
            began = time.perf_counter()
            detector.predict(image[np.newaxis], verbose=0)
            area = SHUT
            if opened:
                area = int((segmenter.predict(image[np.newaxis], verbose=0) >= 0).sum())
            areas.append(area)
            latencies.append(time.perf_counter() - began)
        document = {"seconds": time.perf_counter() - start, "latencies_s": latencies, "areas": areas}
        print(json.dumps(document), file=answers, flush=True)


def networks() -> tuple[keras.Model, keras.Model]:
    """The flagship's detector and segmenter, as `training.networks.served_networks` makes them of a run."""
    recipe = find(DEFAULT)
    image = keras.Input((SLICE_SIZE, SLICE_SIZE, len(CHANNELS)), dtype="uint8", name="image")
    made: dict[str, keras.Model] = {}
    for stage in recipe.stages.values():
        network = network_of(stage, size=SLICE_SIZE, initial=False)
        made |= {output: keras.Model(network.input, answer) for output, answer in network.output.items()}
    for output in recipe.mirrored:
        made[output] = keras.Model(image, Mirrored(made[output], name=f"mirrored_{output}")(image))
    return made["tumor"], made["mask"]


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
