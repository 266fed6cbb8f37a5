"""The notebook way: two Keras models and a loop of `predict` over slices, with no server at all.

Follows keras.io/api/models/model_training_apis (`predict`). The Keras files of what is served are not shipped, so these
are the networks of the recipe in its `metadata.json`, put together as served, with random weights: the same work, and
answers that say nothing. The loop is therefore told for which slices the gate opens.

Run with the path of that file. A worker as `benchmarks.limit` is one, asked with
`{"images": FILE.npy, "opened": [BOOL, …]}`.
"""

import json
import os
import sys
import time
from pathlib import Path

import keras
import numpy as np

from training.networks import combined, untrained
from training.recipe import Recipe

SHUT = -1
"""As `benchmarks.measured` has it."""


def main() -> None:
    """Answers until there is nothing more to read."""
    detector, segmenter = networks(Path(sys.argv[1]))
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


def networks(metadata: Path) -> tuple[keras.Model, keras.Model]:
    """The detector and the segmenter of the version that this is the metadata of, knowing nothing."""
    recipe = Recipe.from_json(json.loads(metadata.read_text())["recipe"], source=str(metadata))
    return combined(recipe, untrained(recipe))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
