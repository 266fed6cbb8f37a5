"""Detector, decision and segmenter, called in the process that asks: the limit, and the inside of every peer.

Needs nothing but NumPy and the engine, so that it runs in the environment of any peer.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
"""Slices (N, 256, 256, 3)."""

ENVIRONMENT = "GLIOGATE_BENCH_NETWORKS"
"""Names the file that `Networks.write` wrote; peers start their workers in ways that pass no argument on."""

DOCUMENTED, OURS = "onnxruntime", "ours"
"""The engine that the documentation of servers leads to, its options untouched; and gliogate's: OpenVINO in 8 bits."""

TRIED = ("onnxruntime int8", "openvino fp32", "openvino bf16")
"""Other engines, and what they compute in where a network does not say."""

IN_8_BITS = (OURS, "onnxruntime int8")
"""Engines that are given the networks in 8 bits."""

MAX_BATCH = 16
"""The most slices that a peer joins into one batch; more is not faster on a CPU."""


@dataclass(frozen=True)
class Networks:
    """The served networks, and when the gate opens.

    Attributes:
        detector: its ONNX file.
        segmenter: its ONNX file.
        detection_threshold: the tumor probability from which a slice is segmented.
        mask_threshold: the probability from which a pixel is tumor.
        engine: what computes them: `DOCUMENTED`, `OURS`, or one of `TRIED`.
    """

    detector: str
    segmenter: str
    detection_threshold: float
    mask_threshold: float
    engine: str = OURS

    @classmethod
    def from_environment(cls) -> Self:
        """Reads the file that the environment names."""
        return cls(**json.loads(Path(os.environ[ENVIRONMENT]).read_text()))

    def write(self, path: Path) -> Path:
        """Writes the file for `from_environment`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(self)))
        return path


class Pair:
    """Both networks, loaded.

    Attributes:
        seconds: spent in each network so far.
    """

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self.seconds = {"detector": 0.0, "segmenter": 0.0}
        self._detect = open_network(networks.detector, networks.engine)
        self._segment = open_network(networks.segmenter, networks.engine)

    def analyze(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """One call of each network at most.

        Returns:
            Tumor probabilities (N,), and masks (N, 256, 256) of 0 and 1, all 0 where the gate stayed shut.
        """
        probability = self._timed("detector", self._detect, images)[:, 0]
        masks = np.zeros(images.shape[:3], np.uint8)
        passed = np.flatnonzero(probability >= np.float32(self.networks.detection_threshold))
        if len(passed):
            picked = images if len(passed) == len(images) else images[passed]
            masks[passed] = self._timed("segmenter", self._segment, picked) >= self.networks.mask_threshold
        return probability, masks

    def replies(self, images: list[bytes]) -> list[bytes]:
        """What goes over HTTP: a slice's bytes in; out its probability, FP32, and its mask behind that."""
        slices = np.frombuffer(b"".join(images), np.uint8).reshape(-1, 256, 256, 3)
        return [p.tobytes() + mask.tobytes() for p, mask in zip(*self.analyze(slices), strict=True)]

    def _timed(self, name: str, network: Callable[[Images], list[NDArray[Any]]], images: Images) -> NDArray[Any]:
        start = time.perf_counter()
        [answers] = network(images)
        self.seconds[name] += time.perf_counter() - start
        return answers


def open_network(path: str, engine: str) -> Callable[[Images], list[NDArray[Any]]]:
    """Loads one network, or several fused; it answers slices with all of its outputs.

    Raises:
        ValueError: no such engine.
    """
    match engine:
        case "onnxruntime" | "onnxruntime int8":
            return _open_with_onnxruntime(path)
        case "ours" | "openvino fp32":
            return _open_with_openvino(path, "f32")
        case "openvino bf16":
            return _open_with_openvino(path, "bf16")
        case _:
            raise ValueError(f"engine is {engine!r}, expected {', '.join((DOCUMENTED, OURS, *TRIED))}")


def _open_with_onnxruntime(path: str) -> Callable[[Images], list[NDArray[Any]]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: list(session.run(None, {"image": images}))


def _open_with_openvino(path: str, precision: str) -> Callable[[Images], list[NDArray[Any]]]:
    """As `gliogate/embedded/backend/onnxruntime/model.py` does."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
    }
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    # Some servers ask from many threads, and a request of OpenVINO is one thread's.
    own = threading.local()

    def answer(images: Images) -> list[NDArray[Any]]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        # Copies: what a request answers with is its own, and changes with the next.
        return [np.array(output) for output in own.request.infer({"image": images}, share_inputs=True).values()]

    return answer
