"""Keras networks as ONNX files under the wire contract's names, and the proof that they answer alike."""

import gc
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import onnxslim
import openvino
from numpy.typing import NDArray

from gliogate.contract import IMAGE, Model
from training import graphs
from training.errors import ParityError

logger = logging.getLogger(__name__)

OPSET = 17
BATCH_SIZE = 16
TOLERANCE = 1e-3
"""The most by which an output of the ONNX file may differ from Keras's. Both outputs are probabilities."""


def write_onnx(
    network: keras.Model, path: Path, served: Model, images: NDArray[np.uint8], expected: NDArray[np.float32]
) -> float:
    """Writes a network, its graph simplified, and proves on real slices that it answers as Keras does.

    Weights are stored in 16 bits where that changes no output by more than `TOLERANCE`, else in 32. The graph computes
    in 32 bits either way: a stored weight is cast when the file is loaded.

    Args:
        network: takes `image` and gives the contract's output.
        path: the file to write.
        served: the contract's model.
        images: real slices (N, 256, 256, 3).
        expected: what Keras answers about them.

    Returns:
        The largest difference from Keras.

    Raises:
        ParityError: it exceeds `TOLERANCE` even in 32 bits, or the file's tensors are not the contract's.
    """
    signature = [keras.InputSpec(shape=(None, *IMAGE.shape), dtype=IMAGE.dtype.lower(), name=IMAGE.name)]
    with warnings.catch_warnings():
        # tf2onnx asks NumPy for a name that a coming NumPy will define otherwise.
        warnings.simplefilter("ignore", FutureWarning)
        with _collected_garbage():
            network.export(path, format="onnx", opset_version=OPSET, input_signature=signature, verbose=False)
    exact = onnxslim.slim(onnx.load(path))
    graphs.name_modes(exact.graph)
    graphs.cast_first(exact.graph)
    for value in (*exact.graph.input, *exact.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    halved = onnx.ModelProto()
    halved.CopyFrom(exact)
    graphs.halve_weights(halved.graph)
    for bits, model in ((16, halved), (32, exact)):
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        _check_tensors(path, served)
        difference = float(np.abs(answer(path, images) - expected).max())
        told = f"{path.parent.parent.name}: weights in {bits} bits differ from Keras by at most {difference:.1e}"
        logger.info("%s over %d real slices", told, len(images))
        if difference <= TOLERANCE:
            return difference
    raise ParityError(f"{told}, more than {TOLERANCE:.0e}")


def answer(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The only output of an ONNX file for slices (N, 256, 256, 3)."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {IMAGE.name: batch})[0] for batch in _batches(images)])


def answer_on_cpu(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The same in the engine in which `config.pbtxt` has a CPU serve it, OpenVINO: it rounds in ways of its own."""
    request = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    # Copies: what a request answers with changes with the next.
    return np.concatenate([request.infer({IMAGE.name: batch})[0].copy() for batch in _batches(images)])


def _batches(images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)]


@contextmanager
def _collected_garbage() -> Iterator[None]:
    """Collects garbage every two seconds.

    tf2onnx copies all weights in each of its passes, into cycles that Python leaves where they are, since it counts
    objects and not bytes: 19 GB for a network of 130 MB.
    """
    done = threading.Event()

    def collect() -> None:
        while not done.wait(2):
            gc.collect()

    collector = threading.Thread(target=collect, daemon=True)
    collector.start()
    try:
        yield
    finally:
        done.set()
        collector.join()


def _check_tensors(path: Path, served: Model) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in (*session.get_inputs(), *session.get_outputs())]
    expected = [tensor.name for tensor in (*served.inputs, *served.outputs)]
    if names != expected:
        raise ParityError(f"{path}: tensors {names}, the contract has {expected}")
