"""The networks as a GPU serves them: in 16 bits between the convolutions, wherever that loses nothing that counts.

The graph itself says so, since TensorRT 11 has no flag that would. TensorRT 10 keeps to a graph's types, too, as long
as ONNX Runtime is given no flag.
"""

import shutil
from pathlib import Path

import onnx

from gliogate.contract import Model
from training import graphs, tensorrt
from training.data import Dataset
from training.errors import ParityError
from training.onnx_files import answer
from training.rounding import Rounding, judge

FILE = "model_gpu.onnx"
"""As the networks' `configs/gpu.pbtxt` names it."""

LARGEST_LOSS = 0.001


def write_for_gpu(exact: Path, model: Model, judged: Dataset, threshold: float) -> Rounding:
    """Writes `model_gpu.onnx` beside a network's file.

    It is judged on a CPU. There ONNX Runtime computes each node in 32 bits and rounds what it gives to 16, as a GPU
    that adds up in 32 does.

    Args:
        exact: the file in full precision.
        model: which of the two networks it is.
        judged: slices to find out on what rounding loses.
        threshold: mask probability from which a pixel is tumor.

    Raises:
        ParityError: TensorRT's parser would not take the file.
    """
    path = exact.with_name(FILE)
    rounded = graphs.in_16_bits(onnx.load(exact))
    graphs.name_by_weights(rounded.graph)
    onnx.checker.check_model(rounded, full_check=True)
    onnx.save(rounded, path)
    before, after = answer(exact, judged.images), answer(path, judged.images)
    rounding = judge(model, before, after, judged, threshold, bits=16, largest_loss=LARGEST_LOSS)
    if rounding.bits > 16:
        shutil.copyfile(exact, path)
    if refusals := tensorrt.refusals(onnx.load(path)):
        raise ParityError(f"TensorRT would not take the whole of {path.name} of {model.name}: {'; '.join(refusals)}")
    return rounding
