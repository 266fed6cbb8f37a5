"""TensorRT's operator table against graphs, each with one thing that its parser does not take."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.row_of_convolutions import network

from gliogate.contract import IMAGE, SEGMENTER
from training.tensorrt import OPERATORS, TABLE, refusals


def graph(*nodes: onnx.NodeProto, opset: int = 17) -> onnx.ModelProto:
    """Nodes between `image`, UINT8, cast to `x`, and `y`; `ones` and `zeros` are constants."""
    made = helper.make_graph(
        [helper.make_node("Cast", [IMAGE.name], ["x"], "cast", to=TensorProto.FLOAT), *nodes],
        "test",
        [helper.make_tensor_value_info(IMAGE.name, TensorProto.UINT8, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, ir_version=8, opset_imports=imports)


def node(operator: str, *inputs: str, name: str = "it", output: str = "y", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [output], name, **attributes)


def test_the_table_says_of_which_version_it_is() -> None:
    assert TABLE["tensorrt"] in TABLE["source"]
    assert len(OPERATORS) > 150
    assert "UINT8" in OPERATORS["Cast"]
    assert "UINT8" not in OPERATORS["Concat"] | OPERATORS["Slice"] | OPERATORS["Shape"]


def test_a_graph_that_is_taken_is_told_nothing_of(tmp_path: Path) -> None:
    assert refusals(onnx.load(network(SEGMENTER, tmp_path / "model.onnx", activation="Clip"))) == []
    assert refusals(graph(node("Resize", "x", "", "scales", mode="nearest", nearest_mode="floor"))) == []
    assert refusals(graph(node("CumSum", "x", "axis"))) == []


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (graph(node("Det", "x")), "Det 'it': not supported"),
        (graph(helper.make_node("Gelu", ["x"], ["y"], "it", domain="com.microsoft")), "Gelu 'it': not supported"),
        (
            graph(node("Concat", IMAGE.name, IMAGE.name, output="two", axis=0), node("Cast", "two", to=1)),
            "Concat 'it': takes UINT8",
        ),
        (graph(node("Cast", "x", output="d", to=TensorProto.DOUBLE), node("Abs", "d")), "Abs 'it': takes a type that"),
        (graph(node("Resize", "x", "", "scales", mode="cubic")), "Resize 'it': mode is cubic"),
        (
            graph(node("Resize", "x", "", "scales", coordinate_transformation_mode="tf_crop_and_resize")),
            "Resize 'it': coordinate_transformation_mode is tf_crop_and_resize",
        ),
        (graph(node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2])), "MaxPool 'it': has dilations"),
        (
            graph(node("Cast", "x", output="i", name="i", to=7), node("ReduceSum", "x", "i")),
            "ReduceSum 'it': has axes that are computed",
        ),
        (graph(node("Abs", "x"), opset=8), "opset 8, not 9 to 24"),
    ],
    ids=["operator", "domain", "uint8", "type", "mode", "coordinates", "dilations", "axes", "opset"],
)
def test_what_is_not_taken_is_named(model: onnx.ModelProto, told: str) -> None:
    assert any(told in refusal for refusal in refusals(model))


def test_a_second_dynamic_input_is_covered_by_no_profile() -> None:
    model = graph(node("Abs", "x"))
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["rows", 3]))
    assert refusals(model) == ["input 'more' has sizes that no profile covers"]


def test_a_second_dynamic_dimension_is_covered_by_no_profile() -> None:
    model = graph(node("Abs", "x"))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    assert refusals(model) == ["input 'image' has sizes that no profile covers"]
