"""Changes to ONNX graphs that change no answer: what engines ask of a graph, and how it is stored."""

import hashlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.errors import ParityError

MOVES = {"Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that hand values on as they are."""


def cast_first(graph: onnx.GraphProto) -> bool:
    """Casts an input of UINT8 before anything else is done to it: a Cast is all that TensorRT takes it for.

    What only moves values gives the same before a Cast and behind it, but for the type.

    Returns:
        Whether the graph was changed.

    Raises:
        ParityError: the input is computed with.
    """
    [image] = graph.input
    consumers = [node for node in graph.node if image.name in node.input]
    if image.type.tensor_type.elem_type != TensorProto.UINT8 or all(node.op_type == "Cast" for node in consumers):
        return False
    floats = f"{image.name}_float32"
    casts = {image.name: floats}
    moved = {image.name}
    nodes = [helper.make_node("Cast", [image.name], [floats], floats, to=TensorProto.FLOAT)]
    for node in graph.node:  # In an order in which each comes after what it depends on.
        takes_levels = not moved.isdisjoint(node.input)
        if takes_levels and node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT:
            casts[node.output[0]] = casts.get(node.input[0], node.input[0])
            continue
        if takes_levels and node.op_type in MOVES:
            moved.update(node.output)
        elif takes_levels and node.op_type not in ("Shape", "Cast"):
            raise ParityError(f"node '{node.name}' computes with the levels of '{image.name}' as {node.op_type}")
        for index, name in enumerate(node.input):
            node.input[index] = casts.get(name, name)
        nodes.append(node)
    _replace(graph, nodes)
    return True


def name_modes(graph: onnx.GraphProto) -> None:
    """Says of nearest neighbours what every engine knows: tf2onnx takes a mode that opset 13 has given up.

    Where sizes double, as they do here, all modes agree.
    """
    for node in graph.node:
        modes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Resize" and modes["mode"].s == b"nearest":
            modes["coordinate_transformation_mode"].s = b"asymmetric"
            modes["nearest_mode"].s = b"floor"


def halve_weights(graph: onnx.GraphProto) -> None:
    """Stores every large float32 initializer as float16, with a Cast behind it that loaders fold away."""
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < 1024:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_float16"))
        casts.append(helper.make_node("Cast", [f"{name}_float16"], [name], to=TensorProto.FLOAT))
    _replace(graph, [*casts, *graph.node])


def between_convolutions(graph: onnx.GraphProto) -> list[bool]:
    """Of each node, whether it is a convolution or between two; normalization is not, nor what follows the last."""
    inside = [_is_convolution(node) for node in graph.node]
    behind: set[str] = set()
    for index, node in enumerate(graph.node):
        if inside[index] or not behind.isdisjoint(node.input):
            behind.update(node.output)
            inside[index] = True
    before: set[str] = set()
    for index, node in reversed(list(enumerate(graph.node))):
        if _is_convolution(node) or not before.isdisjoint(node.output):
            before.update(node.input)
        else:
            inside[index] = False
    return inside


def in_16_bits(model: onnx.ModelProto) -> onnx.ModelProto:
    """A network that computes in float16 from its first convolution to its last, and in float32 before and behind.

    The types are in the graph. ONNX Runtime's own converter is no use here: it casts what goes from one node that stays
    in 32 bits to the next to 16 and back, the normalization's values among them.

    Args:
        model: in float32; weights may be stored in float16, with a Cast behind them.
    """
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    halved = {
        node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast" and node.input[0] in stored
    }
    nodes: list[onnx.NodeProto] = []
    # Names of values in float16 by what they are called in float32, and the other way round of those not cast back yet.
    half: dict[str, str] = {}
    inside: dict[str, str] = {}

    def in_half(name: str) -> str:
        if name in half:
            return half[name]
        if name in halved:
            half[name] = halved[name]
        elif name in stored and stored[name].data_type == TensorProto.FLOAT:
            half[name] = f"{name}_float16"
            values = numpy_helper.to_array(stored[name]).astype(np.float16)
            graph.initializer.append(numpy_helper.from_array(values, half[name]))
        elif kinds.get(name) == TensorProto.FLOAT:
            half[name] = f"{name}_float16"
            nodes.append(helper.make_node("Cast", [name], [half[name]], half[name], to=TensorProto.FLOAT16))
        else:
            return name
        return half[name]

    for node, is_inside in zip(graph.node, between_convolutions(graph), strict=True):
        if is_inside:
            for index, name in enumerate(node.input):
                # By how much, and where: in float32 whatever is resized.
                if not (node.op_type == "Resize" and index > 0):
                    node.input[index] = in_half(name)
            for index, name in enumerate(node.output):
                node.output[index] = half[name] = inside[name] = f"{name}_float16"
        else:
            nodes += [
                helper.make_node("Cast", [inside.pop(name)], [name], name, to=TensorProto.FLOAT)
                for name in dict.fromkeys(node.input)
                if name in inside
            ]
        nodes.append(node)
    _replace(graph, nodes)
    return model


def name_by_weights(graph: onnx.GraphProto) -> None:
    """Puts a hash of all weights into the name of what the first node gives.

    ONNX Runtime finds an engine of TensorRT that it has kept by the names in a graph, and not by its weights.
    """
    weights = b"".join(tensor.SerializeToString() for tensor in graph.initializer)
    [old] = graph.node[0].output
    new = f"{old}_{hashlib.sha256(weights).hexdigest()[:16]}"
    graph.node[0].output[0] = new
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def _is_convolution(node: onnx.NodeProto) -> bool:
    return node.op_type in ("Conv", "ConvTranspose")


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Gives a graph other nodes, and drops what nothing takes any more."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(node.input)
    tensors = [tensor for tensor in graph.initializer if tensor.name in wanted]
    for field, values in ((graph.node, reversed(kept)), (graph.initializer, tensors), (graph.value_info, [])):
        values = list(values)
        del field[:]
        field.extend(values)
