"""What TensorRT's ONNX parser takes, held against a graph: what it does not take, ONNX Runtime cuts out of the engine.

The part behind such a cut has inputs that no optimization profile names, and the session fails (onnxruntime#17007).
`tensorrt_operators.json` is the parser's own table of operators and types, of the version that it names.
"""

import json
from importlib import resources

import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper

from gliogate.contract import IMAGE

TABLE = json.loads(resources.files(__package__).joinpath("tensorrt_operators.json").read_text())
OPERATORS = {operator: set(types.split()) for operator, types in TABLE["operators"].items()}
TYPES = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "INT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.UINT8: "UINT8",
    TensorProto.BOOL: "BOOL",
}
STANDARD = ("", "ai.onnx")
"""The names of ONNX's own operators."""

WITH_SETTINGS = ("CumSum", "Resize")
"""Operators whose inputs behind the first say how, and have types of their own."""

RESIZE = {
    "mode": {"nearest", "linear"},
    "coordinate_transformation_mode": {
        "half_pixel",
        "pytorch_half_pixel",
        "tf_half_pixel_for_nn",
        "asymmetric",
        "align_corners",
    },
    "nearest_mode": {"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"},
    "keep_aspect_ratio_policy": {"stretch"},
    "antialias": {0},
}
"""What the attributes of a Resize may be."""


def refusals(model: onnx.ModelProto) -> list[str]:
    """Why TensorRT would not take a whole graph as one engine with a profile for `image`; empty where it would."""
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    least, most = TABLE["opsets"]
    opsets = [opset.version for opset in model.opset_import if opset.domain in STANDARD]
    found = [f"opset {opset}, not {least} to {most}" for opset in opsets if not least <= opset <= most]
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name != IMAGE.name or any(dim.dim_param for dim in dims[1:]):
            found.append(f"input '{value.name}' has sizes that no profile covers")
    constants = {tensor.name for tensor in graph.initializer}
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        found += [f"{node.op_type} '{node.name}': {reason}" for reason in _reasons(node, kinds, constants)]
    return found


def _reasons(node: NodeProto, kinds: dict[str, int], constants: set[str]) -> list[str]:
    if node.domain not in STANDARD or node.op_type not in OPERATORS:
        return ["not supported"]
    found = []
    for index, name in enumerate(node.input):
        if name and not (node.op_type in WITH_SETTINGS and index > 0):
            kind = TYPES.get(kinds.get(name, TensorProto.UNDEFINED), "a type that nobody knows")
            if kind not in OPERATORS[node.op_type]:
                found.append(f"takes {kind}")
    attributes = {attribute.name: _value(attribute) for attribute in node.attribute}
    if node.op_type == "Resize":
        wrong = {name: attributes[name] for name in RESIZE if attributes.get(name) not in {None, *RESIZE[name]}}
        found += [f"{name} is {value}" for name, value in wrong.items()]
    if node.op_type in ("AveragePool", "MaxPool", "LpPool") and set(attributes.get("dilations", [1])) != {1}:
        found.append("has dilations")
    if node.op_type in ("MaxPool", "LayerNormalization") and len(node.output) > 1:
        found.append("gives more than one output")
    # Axes are an input from opset 13 or 18 on.
    is_about_axes = node.op_type.startswith("Reduce") or node.op_type in ("CumSum", "Squeeze", "Unsqueeze")
    if is_about_axes and any(name and name not in constants for name in node.input[1:]):
        found.append("has axes that are computed")
    return found


def _value(attribute: AttributeProto) -> object:
    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value
