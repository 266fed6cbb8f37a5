"""The gate as one ONNX graph: detector, NonZero, Gather, segmenter, ScatterND.

What it cannot do is what the served gate is for: thresholds that a request chooses, outputs that nobody asked for and
so are not computed, slices of several requests with settings of their own, a network that fails alone.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from benchmarks.pair import Networks
from gliogate.contract import DETECTOR, IMAGE, MASK_PROBABILITY, SEGMENTER, SLICE_SIZE, TUMOR_MASK, TUMOR_PROBABILITY


def write_fused(networks: Networks, path: Path) -> Path:
    """Writes the graph: `image` in, `tumor_probability` and `tumor_mask` out, as the wire contract has them."""
    detector = compose.add_prefix(onnx.load(networks.detector), f"{DETECTOR.name}_")
    segmenter = compose.add_prefix(onnx.load(networks.segmenter), f"{SEGMENTER.name}_")
    constants = {
        "detection_threshold": np.float32(networks.detection_threshold),
        "mask_threshold": np.float32(networks.mask_threshold),
        "plane": np.array([SLICE_SIZE, SLICE_SIZE], np.int64),
        "second": np.array([1], np.int64),
    }
    picked = f"{SEGMENTER.name}_{IMAGE.name}"
    nodes = [
        helper.make_node("Identity", [IMAGE.name], [f"{DETECTOR.name}_{IMAGE.name}"]),
        *detector.graph.node,
        helper.make_node("Identity", [f"{DETECTOR.name}_{TUMOR_PROBABILITY.name}"], [TUMOR_PROBABILITY.name]),
        helper.make_node("GreaterOrEqual", [TUMOR_PROBABILITY.name, "detection_threshold"], ["opened"]),
        helper.make_node("Squeeze", ["opened", "second"], ["passed"]),
        helper.make_node("NonZero", ["passed"], ["places"]),
        helper.make_node("Transpose", ["places"], ["rows"], perm=[1, 0]),
        helper.make_node("Shape", [IMAGE.name], ["count"], start=0, end=1),
        helper.make_node("Concat", ["count", "plane"], ["shape"], axis=0),
        helper.make_node(
            "ConstantOfShape", ["shape"], ["empty"], value=helper.make_tensor("none", TensorProto.UINT8, [1], [0])
        ),
        helper.make_node("Size", ["rows"], ["passing"]),
        helper.make_node("Cast", ["passing"], ["any"], to=TensorProto.BOOL),
        # The segmenter, as exported, refuses a batch of none.
        helper.make_node(
            "If",
            ["any"],
            [TUMOR_MASK.name],
            then_branch=helper.make_graph(
                [
                    helper.make_node("GatherND", [IMAGE.name, "rows"], [picked]),
                    *segmenter.graph.node,
                    helper.make_node(
                        "GreaterOrEqual", [f"{SEGMENTER.name}_{MASK_PROBABILITY.name}", "mask_threshold"], ["drawn"]
                    ),
                    helper.make_node("Cast", ["drawn"], ["masks"], to=TensorProto.UINT8),
                    helper.make_node("ScatterND", ["empty", "rows", "masks"], ["filled"]),
                ],
                "open",
                [],
                [_masks("filled")],
                segmenter.graph.initializer,
            ),
            else_branch=helper.make_graph(
                [helper.make_node("Identity", ["empty"], ["left"])], "shut", [], [_masks("left")]
            ),
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "gate",
        [helper.make_tensor_value_info(IMAGE.name, TensorProto.UINT8, ["batch", *IMAGE.shape])],
        [
            helper.make_tensor_value_info(TUMOR_PROBABILITY.name, TensorProto.FLOAT, ["batch", 1]),
            _masks(TUMOR_MASK.name),
        ],
        [
            *detector.graph.initializer,
            *(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()),
        ],
    )
    network = helper.make_model(graph, ir_version=detector.ir_version, opset_imports=detector.opset_import)
    onnx.checker.check_model(network)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(network, path)
    return path


def _masks(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.UINT8, ["batch", *TUMOR_MASK.shape])
