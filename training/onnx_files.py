"""Keras networks as ONNX files under the wire contract's names, and the proof that they answer alike."""

import warnings
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gliogate.contract import IMAGE, Model

OPSET = 17
TOLERANCE = 1e-3
"""The most by which an output of the ONNX file may differ from Keras's. Both outputs are probabilities."""


class ParityError(RuntimeError):
    """An ONNX file does not answer as the Keras network that it was made from."""


def write_onnx(network: keras.Model, path: Path) -> None:
    """Writes a network that takes `image` and gives the contract's output; weights are stored as 16-bit floats.

    The graph computes in 32 bits; each stored weight is cast when the file is loaded. That halves the file.
    """
    signature = [keras.InputSpec(shape=(None, *IMAGE.shape), dtype=IMAGE.dtype.lower(), name=IMAGE.name)]
    with warnings.catch_warnings():
        # tf2onnx asks NumPy for a name that a coming NumPy will define otherwise.
        warnings.simplefilter("ignore", FutureWarning)
        network.export(path, format="onnx", opset_version=OPSET, input_signature=signature, verbose=False)
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    _halve_weights(model.graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def answer(path: Path, images: NDArray[np.uint8], *, batch_size: int = 16) -> NDArray[np.float32]:
    """The only output of an ONNX file for slices (N, 256, 256, 3)."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    starts = range(0, len(images), batch_size)
    return np.concatenate([session.run(None, {IMAGE.name: images[i : i + batch_size]})[0] for i in starts])


def check_parity(network: keras.Model, path: Path, served: Model, images: NDArray[np.uint8]) -> float:
    """Holds an ONNX file against its Keras network on real slices.

    Returns:
        The largest difference.

    Raises:
        ParityError: it exceeds `TOLERANCE`, or the file's tensors are not the contract's.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in (*session.get_inputs(), *session.get_outputs())]
    expected = [tensor.name for tensor in (*served.inputs, *served.outputs)]
    if names != expected:
        raise ParityError(f"{path.name}: tensors {names}, the contract has {expected}")
    (output,) = served.outputs
    in_keras = network.predict(images, batch_size=16, verbose=0)[output.name]
    difference = float(np.abs(answer(path, images) - in_keras).max())
    if difference > TOLERANCE:
        raise ParityError(f"{path.name}: differs from Keras by {difference:.1e}, more than {TOLERANCE:.0e}")
    return difference


def _halve_weights(graph: onnx.GraphProto) -> None:
    """Stores every large float32 initializer as float16, with a Cast behind it that loaders fold away."""
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < 1024:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_float16"))
        casts.append(helper.make_node("Cast", [f"{name}_float16"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
