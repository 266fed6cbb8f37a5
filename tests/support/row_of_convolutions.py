"""Networks small enough to see through, as ONNX files."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gliogate.contract import DETECTOR, IMAGE, SEGMENTER, Model

FACTORS = (0.5, 8.0, 0.125, 2.0)


def network(
    model: Model,
    path: Path,
    *,
    end: str = "Identity",
    activation: str | None = None,
    factors: tuple[float, ...] = FACTORS,
) -> Path:
    """Convolutions in a row that hand FLAIR on, `activation` behind each; a detector's last node is `end`.

    Each but the first multiplies by a factor.
    """
    [output] = model.outputs
    nodes = [
        helper.make_node("Cast", [IMAGE.name], ["levels"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["levels"], ["channels"], "transpose", perm=[0, 3, 1, 2]),
    ]
    flair = np.zeros((1, 3, 1, 1), np.float32)
    flair[0, 1] = 1 / 255
    # No two alike: ONNX Runtime would store them once.
    weights = [flair, *(np.full((1, 1, 1, 1), factor, np.float32) for factor in factors)]
    for number, _ in enumerate(weights):
        source = "channels" if number == 0 else f"c{number - 1}"
        convolved = f"before{number}" if activation else f"c{number}"
        nodes.append(helper.make_node("Conv", [source, f"w{number}"], [convolved], f"conv{number}"))
        if activation:
            limits = ["zero", "six"] if activation == "Clip" else []
            nodes.append(helper.make_node(activation, [convolved, *limits], [f"c{number}"], f"activation{number}"))
    last = f"c{len(factors)}"
    if model is DETECTOR:
        nodes.append(helper.make_node("ReduceMax", [last], ["level"], "top", axes=[2, 3], keepdims=0))
        nodes.append(helper.make_node(end, ["level"], [output.name], "answer"))
    else:
        nodes.append(helper.make_node("Squeeze", [last, "channel"], [output.name], "answer"))
    graph = helper.make_graph(
        nodes,
        "row",
        [helper.make_tensor_value_info(IMAGE.name, TensorProto.UINT8, ["batch", *IMAGE.shape])],
        [helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ["batch", *output.shape])],
        [
            *(numpy_helper.from_array(weight, f"w{number}") for number, weight in enumerate(weights)),
            *([numpy_helper.from_array(np.array([1], np.int64), "channel")] if model is SEGMENTER else []),
            *(numpy_helper.from_array(np.array(at, np.float32), name) for name, at in (("zero", 0), ("six", 6))),
        ],
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path
