"""The engines in one process, without a server.

A worker: it writes a line when it is ready, and then answers a line of JSON with a line of JSON. Asked with
`{"images": FILE.npy, "batch": N, "masks": FILE.npy}`, the latter for it to write. With `--fused FILE.onnx`, both
networks and the gate are one ONNX graph.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measured import area, pack
from benchmarks.pair import Images, Networks, Pair, open_network

Analyze = Callable[[Images], tuple[NDArray[np.float32], NDArray[np.uint8]]]


def main() -> None:
    """Answers until there is nothing more to read."""
    networks = Networks.from_environment()
    pair = None if "--fused" in sys.argv else Pair(networks)
    analyze = pair.analyze if pair else _fused(sys.argv[-1], networks)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        if pair:
            pair.seconds = dict.fromkeys(pair.seconds, 0.0)
        images, batch = np.load(question["images"]), question["batch"]
        answer, masks = _run(analyze, images, batch, networks.detection_threshold)
        np.save(question["masks"], masks)
        print(json.dumps(answer | {"stages_s": pair.seconds if pair else {}}), flush=True)


def _run(analyze: Analyze, images: Images, batch: int, threshold: float) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    answers, latencies = [], []
    start = time.perf_counter()
    for first in range(0, len(images), batch):
        began = time.perf_counter()
        answers.append(analyze(images[first : first + batch]))
        latencies.append(time.perf_counter() - began)
    seconds = time.perf_counter() - start
    pairs = [pair for answer in answers for pair in zip(*answer, strict=True)]
    areas = [area(mask, bool(probability >= np.float32(threshold))) for probability, mask in pairs]
    return {"seconds": seconds, "latencies_s": latencies, "areas": areas}, pack([mask for _, mask in pairs])


def _fused(path: str, networks: Networks) -> Analyze:
    network = open_network(path, networks.engine)

    def analyze(images: Images) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        probability, masks = network(images)
        return probability[:, 0], masks

    return analyze


if __name__ == "__main__":
    main()
