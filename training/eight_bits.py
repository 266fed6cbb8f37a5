"""The networks as a CPU serves them: in 8 bits, at about half the time of 32, wherever that loses nothing that counts.

Static quantization after training, by ONNX Runtime, as Q and DQ nodes that other engines read too. Weights are rounded
by output channel, activations within the range that they take on real slices.
"""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from gliogate.contract import IMAGE, Model
from training.data import Dataset
from training.onnx_files import answer, answer_on_cpu
from training.rounding import Rounding, judge

FILE = "model_cpu.onnx"
"""As the networks' `config.pbtxt` names it."""

LARGEST_LOSS = 0.005
OPERATORS = ["Conv", "Relu", "Clip", "Add", "Concat", "MaxPool", "Resize"]
EXACT_CONVOLUTIONS = 3
"""The first so many of a row stay as they are, and all before them: what is rounded there is lost to all behind."""

UNSURE = 0.02
"""Probabilities from this to 1 less this are those of slices, or pixels, that a network is not sure of."""

BATCH_SIZE = 8


def write_for_cpu(exact: Path, model: Model, images: NDArray[np.uint8], judged: Dataset, threshold: float) -> Rounding:
    """Writes `model_cpu.onnx` beside a network's file.

    Args:
        exact: the file in full precision.
        model: which of the two networks it is.
        images: real slices (N, 256, 256, 3), to learn the range of activations from.
        judged: slices to find out on what rounding loses.
        threshold: mask probability from which a pixel is tumor.
    """
    path = exact.with_name(FILE)
    round_to_8_bits(exact, path, images)
    before, after = answer(exact, judged.images), answer_on_cpu(path, judged.images)
    rounding = judge(model, before, after, judged, threshold, bits=8, largest_loss=LARGEST_LOSS)
    if rounding.bits > 8:
        shutil.copyfile(exact, path)
    return rounding


def round_to_8_bits(exact: Path, path: Path, images: NDArray[np.uint8]) -> None:
    """Writes a network in 8 bits.

    Args:
        exact: the file in full precision.
        path: the file to write.
        images: real slices (N, 256, 256, 3), to learn the range of activations from.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        folded = Path(folder) / "folded.onnx"
        # Weights that are stored in 16 bits become plain ones again, and batch normalization goes into them.
        quant_pre_process(exact, folded, skip_symbolic_shape=True)
        quantize_static(
            folded,
            path,
            _Slices(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            nodes_to_exclude=_exact_nodes(onnx.load(folded).graph),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    _take_back_shift(path, answer(exact, images), answer_on_cpu(path, images))


def _take_back_shift(path: Path, before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
    """Adds to a rounded network's logits what rounding took from them on average, or it would move a calibrated bar.

    Args:
        path: of the network; what it gives is the sigmoid of something.
        before: probabilities that it gave for some slices before it was rounded. Only those that are neither 0 nor 1,
            nearly, count: where a network is sure, its logits may go far, and it matters little.
        after: the same from then on.
    """
    unsure = (before > UNSURE) & (before < 1 - UNSURE)
    network = onnx.load(path)
    sigmoid = network.graph.node[-1]
    if not unsure.any() or sigmoid.op_type != "Sigmoid":
        return
    shift = np.mean(_logits(before[unsure]) - _logits(after[unsure]), dtype=np.float64)
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.array(shift, np.float32), "shift"))
    network.graph.node.insert(
        len(network.graph.node) - 1, onnx.helper.make_node("Add", [sigmoid.input[0], "shift"], ["unshifted"], "unshift")
    )
    sigmoid.input[0] = "unshifted"
    onnx.save(network, path)


def _logits(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    probability = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.log(probability / (1 - probability))


def _exact_nodes(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes before and behind all convolutions, and of those convolutions that come first in a row."""
    exact = []
    convolutions_before: dict[str, int] = {}
    for node in graph.node:  # In an order in which each comes after what it depends on.
        before = max((convolutions_before.get(name, 0) for name in node.input), default=0)
        if before < (EXACT_CONVOLUTIONS if node.op_type == "Conv" else 1):
            exact.append(node.name)
        convolutions_before.update(dict.fromkeys(node.output, before + (node.op_type == "Conv")))
    # Logits, and their mean: a step of 1/256 of their range is more than what decides on most slices.
    lead_to_convolutions: set[str] = set()
    for node in reversed(graph.node):
        is_convolution = node.op_type in ("Conv", "ConvTranspose")
        if is_convolution or not lead_to_convolutions.isdisjoint(node.output):
            lead_to_convolutions.update(node.input)
        else:
            exact.append(node.name)
    return exact


class _Slices(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Slices, batch by batch, as ONNX Runtime asks for them."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        starts = range(0, len(images), BATCH_SIZE)
        self._batches = iter([{IMAGE.name: images[start : start + BATCH_SIZE]} for start in starts])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's advice to do what was done already goes to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
