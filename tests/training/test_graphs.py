"""Changes to ONNX graphs: the same answers, from graphs that engines take."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.row_of_convolutions import network

from gliogate.contract import DETECTOR, IMAGE, SEGMENTER, Model
from training import graphs
from training.errors import ParityError


def model(nodes: list[onnx.NodeProto], constants: dict[str, list[int]]) -> onnx.ModelProto:
    """Takes UINT8 [batch, 4, 4, 1], gives `out` in FP32."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(IMAGE.name, TensorProto.UINT8, ["batch", 4, 4, 1])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["rows", None, None, None])],
        [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def answer(network: onnx.ModelProto) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8)
    onnx.checker.check_model(network, full_check=True)
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {IMAGE.name: images})[0]


def takers(network: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in network.graph.node if IMAGE.name in node.input]


def mirrored() -> onnx.ModelProto:
    """Slices and their mirror images, in one batch, as many of the first as there were: what `Mirrored` exports."""
    return model(
        [
            helper.make_node("Shape", [IMAGE.name], ["shape"]),
            helper.make_node("Slice", ["shape", "zero", "one", "zero"], ["count"]),
            helper.make_node("Slice", [IMAGE.name, "minus_one", "low", "two", "minus_one"], ["mirror"]),
            helper.make_node("Concat", [IMAGE.name, "mirror"], ["both"], axis=0),
            helper.make_node("Cast", ["both"], ["levels"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["levels"], ["channels_first"], perm=[0, 3, 1, 2]),
            helper.make_node("Slice", ["channels_first", "zero", "count", "zero"], ["out"]),
        ],
        {"zero": [0], "one": [1], "two": [2], "minus_one": [-1], "low": [-(2**31)]},
    )


def test_a_cast_takes_the_place_of_what_moves_levels() -> None:
    network = mirrored()
    before = answer(network)
    assert takers(network) == ["Shape", "Slice", "Concat"]

    assert graphs.cast_first(network.graph)

    assert takers(network) == ["Cast"]
    assert [node.op_type for node in network.graph.node].count("Cast") == 1
    np.testing.assert_array_equal(answer(network), before)
    assert not graphs.cast_first(network.graph)


def test_a_cast_to_another_type_stays() -> None:
    network = mirrored()
    cast = next(node for node in network.graph.node if node.op_type == "Cast")
    cast.attribute[0].i = TensorProto.INT32
    network.graph.node.append(helper.make_node("Cast", ["whole"], ["out"], to=TensorProto.FLOAT))
    network.graph.node[-2].output[0] = "whole"
    before = answer(network)

    assert graphs.cast_first(network.graph)

    assert takers(network) == ["Cast"]
    np.testing.assert_array_equal(answer(network), before)


def test_levels_that_are_computed_with_are_refused() -> None:
    """UINT8 wraps round at 256, FP32 does not."""
    network = model(
        [
            helper.make_node("Add", [IMAGE.name, IMAGE.name], ["sum"], "twice"),
            helper.make_node("Cast", ["sum"], ["out"], to=TensorProto.FLOAT),
        ],
        {},
    )
    with pytest.raises(ParityError, match="'twice' computes with the levels of 'image' as Add"):
        graphs.cast_first(network.graph)


@pytest.mark.parametrize("kind", [DETECTOR, SEGMENTER], ids=lambda kind: kind.name)
def test_16_bits_are_between_the_convolutions_alone(kind: Model, tmp_path: Path) -> None:
    rounded = graphs.in_16_bits(onnx.load(network(kind, tmp_path / "model.onnx", activation="Clip")))
    onnx.checker.check_model(rounded, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(rounded).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    types = [(node.op_type, kinds[node.output[0]]) for node in inferred.node]

    f16, f32 = TensorProto.FLOAT16, TensorProto.FLOAT
    assert types[:3] == [("Cast", f32), ("Transpose", f32), ("Cast", f16)]
    assert {kind for operator, kind in types if operator == "Conv"} == {f16}
    # What follows the last convolution is in 32 bits, what follows the others is not.
    assert [kind for operator, kind in types if operator == "Clip"] == [f16, f16, f16, f16, f32]
    assert types[-1][1] == f32
    assert [value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.output)] == [
        TensorProto.UINT8,
        f32,
    ]


def test_other_weights_are_another_engine(tmp_path: Path) -> None:
    """ONNX Runtime names a kept engine by the names in a graph."""

    def names(factor: float) -> set[str]:
        loaded = onnx.load(network(SEGMENTER, tmp_path / "model.onnx", factors=(factor, 2.0)))
        graphs.name_by_weights(loaded.graph)
        onnx.checker.check_model(loaded, full_check=True)
        return {name for node in loaded.graph.node for name in node.output}

    assert names(0.5) == names(0.5)
    assert names(0.5) != names(0.25)
