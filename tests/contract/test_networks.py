"""The shipped ONNX files against the contract."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from gliogate.contract import DETECTOR, IMAGE, SEGMENTER, Model, Tensor
from gliogate.phantom import make_phantoms
from training.tensorrt import refusals

REPOSITORY = Path(__file__).parents[2] / "model_repository"
NETWORKS = [(model, path) for model in (DETECTOR, SEGMENTER) for path in (REPOSITORY / model.name).glob("*/*.onnx")]
FOR_GPUS = [path for _, path in NETWORKS if path.name == "model_gpu.onnx"]
IDS = ["/".join(path.parts[-3:]) for _, path in NETWORKS]


def tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    dtype = {np.uint8: "UINT8", np.float32: "FP32"}[onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).type]
    batch, *shape = kind.shape.dim
    assert batch.dim_param == "batch"
    return Tensor(value.name, dtype, tuple(dim.dim_value for dim in shape))


def test_both_networks_are_shipped_in_full_precision_for_cpus_and_for_gpus() -> None:
    names = ("model.onnx", "model_cpu.onnx", "model_gpu.onnx")
    assert {(model, path.name) for model, path in NETWORKS} == {
        (model, name) for model in (DETECTOR, SEGMENTER) for name in names
    }


@pytest.mark.parametrize(("model", "path"), NETWORKS, ids=IDS)
def test_tensors_are_the_contracts(model: Model, path: Path) -> None:
    graph = onnx.load(path).graph
    assert tuple(map(tensor, graph.input)) == model.inputs
    assert tuple(map(tensor, graph.output)) == model.outputs


@pytest.mark.parametrize("path", [path for _, path in NETWORKS], ids=IDS)
def test_levels_are_cast_before_anything_else_is_done_to_them(path: Path) -> None:
    """For a UINT8 input that feeds anything but a Cast TensorRT has no use (NVIDIA/TensorRT#3985)."""
    graph = onnx.load(path).graph
    assert {node.op_type for node in graph.node if IMAGE.name in node.input} == {"Cast"}


@pytest.mark.parametrize("path", FOR_GPUS, ids=lambda path: path.parts[-3])
def test_tensorrt_takes_the_whole_graph_as_one_engine(path: Path) -> None:
    assert refusals(onnx.load(path)) == []


@pytest.mark.parametrize("path", FOR_GPUS, ids=lambda path: path.parts[-3])
def test_a_gpu_gets_16_bits_between_the_convolutions_and_the_same_normalization(path: Path) -> None:
    images = np.stack([phantom.image for phantom in make_phantoms(4, prevalence=1, seed=3)])
    exact, rounded = (onnx.load(path.with_name(name)) for name in ("model.onnx", path.name))

    exact_input, rounded_input = (_first_convolved(network) for network in (exact, rounded))
    before, after = (
        _values(network, name, images) for network, name in ((exact, exact_input), (rounded, rounded_input))
    )

    assert after.dtype == np.float16
    np.testing.assert_array_equal(before.astype(np.float16), after)
    inferred = onnx.shape_inference.infer_shapes(rounded).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    convolutions = [node for node in inferred.node if node.op_type in ("Conv", "ConvTranspose")]
    assert {kinds[node.output[0]] for node in convolutions} == {onnx.TensorProto.FLOAT16}


def _first_convolved(network: onnx.ModelProto) -> str:
    return next(node.input[0] for node in network.graph.node if node.op_type == "Conv")


def _values(network: onnx.ModelProto, name: str, images: np.ndarray) -> np.ndarray:
    """What a value inside a network is."""
    asked = onnx.ModelProto()
    asked.CopyFrom(network)
    asked.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    # Else ONNX Runtime fuses what is before the convolution into it.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(asked.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run([name], {IMAGE.name: images})[0]


def test_the_networks_of_a_version_take_60_mb_of_git_at_most() -> None:
    newest = max(int(path.parent.name) for _, path in NETWORKS)
    assert sum(path.stat().st_size for _, path in NETWORKS if int(path.parent.name) == newest) <= 60e6
