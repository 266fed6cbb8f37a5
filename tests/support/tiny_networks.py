"""A model repository whose networks are so small that their answers are known by heart.

The detector answers the mean of the FLAIR channel / 255, the segmenter every pixel of the FLAIR channel / 255. The
configurations are the shipped ones, the gate is the source's; the operating point is 0.5 and 0.5. In a head, a
neighbour at 5 mm weighs half of what a slice weighs itself, and the average of the logits is taken as it is.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gliogate import contract

FLAIR = contract.CHANNELS.index("FLAIR")
PRE_CONTRAST = contract.CHANNELS.index("pre-contrast")
GATE = Path(__file__).parents[2] / "gate"
IR_VERSION, OPSET = 10, 20
NETWORK_FILES = ("model.onnx", "model_cpu.onnx", "model_gpu.onnx")
"""In full precision, and as a CPU and a GPU are served; the tiny ones are the same."""

NEIGHBOURS = {"reach_mm": 10.0, "assumed_spacing_mm": 5.0, "slope": 1.0, "offset": 0.0}
OPERATING_POINT = {contract.DETECTION_THRESHOLD: 0.5, contract.MASK_THRESHOLD: 0.5, "measured_on": {}}
OPERATING_POINTS = {contract.ENSEMBLE: OPERATING_POINT, contract.VOLUME: OPERATING_POINT | {"neighbours": NEIGHBOURS}}

_ONNX_TYPES = {"UINT8": TensorProto.UINT8, "FP32": TensorProto.FLOAT}
_POISONED_ROW = {contract.DETECTOR: 0, contract.SEGMENTER: 1}
_POISONED_COLUMNS = 8
"""So many that the noise which Triton warms the networks up with is no poison; its rows are all the same."""


def build_repository(shipped: Path, destination: Path) -> Path:
    """Copies the shipped configurations and the gate's source, and puts the tiny networks beside them as version 1."""
    for model in contract.MODELS:
        version = destination / model.name / "1"
        version.mkdir(parents=True)
        shutil.copy(shipped / model.name / "config.pbtxt", version.parent)
        # Those for GPUs are for machines that have one.
        not_here = shutil.ignore_patterns("gpu*.pbtxt")
        shutil.copytree(shipped / model.name / "configs", version.parent / "configs", ignore=not_here)
        if model in OPERATING_POINTS:
            for code in GATE.glob("*.py"):
                shutil.copy(code, version)
            (version / "operating_point.json").write_text(json.dumps(OPERATING_POINTS[model]))
        else:
            for name in NETWORK_FILES:
                onnx.save(_network(model), version / name)
    return destination


def newest_version(repository: Path) -> Path:
    """The gate's folder of the version that is served."""
    versions = [folder for folder in (repository / contract.ENSEMBLE.name).iterdir() if folder.name.isdecimal()]
    return max(versions, key=lambda folder: int(folder.name))


def slices(*levels: float) -> np.ndarray:
    """Returns UINT8 [len(levels), 256, 256, 3], a slice for every level, a multiple of 1/256.

    The FLAIR channel is 255 in the left `level` of the columns and 0 in the rest, so the detector says `level` and the
    segmenter's mask is those columns, whatever the mask threshold above 0 is.
    """
    images = np.zeros((len(levels), *contract.IMAGE.shape), np.uint8)
    for image, level in zip(images, levels, strict=True):
        image[:, : round(level * contract.SLICE_SIZE), FLAIR] = 255
    return images


def poisoned(images: np.ndarray, model: contract.Model) -> np.ndarray:
    """Returns the slices with pixels that this tiny network, and not the other, fails on."""
    images = images.copy()
    images[:, _POISONED_ROW[model], :_POISONED_COLUMNS, PRE_CONTRAST] = 255
    return images


def _network(model: contract.Model) -> onnx.ModelProto:
    (image,), (output,) = model.inputs, model.outputs
    row = _POISONED_ROW[model]
    integers = {
        "flair_from": [FLAIR],
        "flair_to": [FLAIR + 1],
        "channels": [3],
        "pixels_from": [row, 0, PRE_CONTRAST],
        "pixels_to": [row + 1, _POISONED_COLUMNS, PRE_CONTRAST + 1],
        "pixel_axes": [1, 2, 3],
        "pixel_columns": [2],
        "all": [0, 1, 2, 3],
        "one": [1],
    }
    floats = {"white": np.float32(255), "column": np.ones((1, 1), np.float32)}
    if model is contract.DETECTOR:
        integers["height_and_width"] = [1, 2]
        answer = helper.make_node("ReduceMean", ["level", "height_and_width"], ["answer"], keepdims=0)
    else:
        answer = helper.make_node("Squeeze", ["level", "channels"], ["answer"])
    nodes = [
        helper.make_node("Cast", [image.name], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["levels", "flair_from", "flair_to", "channels"], ["flair"]),
        helper.make_node("Div", ["flair", "white"], ["level"]),
        answer,
        # The poison: with a slice whose pixels are all 255, a matrix of one column is multiplied by one of two rows.
        helper.make_node("Slice", ["levels", "pixels_from", "pixels_to", "pixel_axes"], ["pixels"]),
        helper.make_node("ReduceMin", ["pixels", "pixel_columns"], ["darkest"]),
        helper.make_node("ReduceMax", ["darkest", "all"], ["highest"], keepdims=0),
        helper.make_node("Equal", ["highest", "white"], ["is_poison"]),
        helper.make_node("Cast", ["is_poison"], ["is_poisoned"], to=TensorProto.INT64),
        helper.make_node("Add", ["is_poisoned", "one"], ["rows"]),
        helper.make_node("Concat", ["rows", "one"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("MatMul", ["column", "zeros"], ["zero"]),
        helper.make_node("Add", ["answer", "zero"], [output.name]),
    ]
    initializers = [
        *(numpy_helper.from_array(np.array(value, np.int64), name) for name, value in integers.items()),
        *(numpy_helper.from_array(np.asarray(value), name) for name, value in floats.items()),
    ]
    graph = helper.make_graph(nodes, model.name, [_value(image)], [_value(output)], initializers)
    network = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(network)
    return network


def _value(tensor: contract.Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, _ONNX_TYPES[tensor.dtype], ["batch", *tensor.shape])
