"""The shipped ONNX files against the contract."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from gliogate.contract import DETECTOR, SEGMENTER, Model, Tensor

REPOSITORY = Path(__file__).parents[2] / "model_repository"
NETWORKS = [(model, path) for model in (DETECTOR, SEGMENTER) for path in (REPOSITORY / model.name).glob("*/*.onnx")]


def tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    dtype = {np.uint8: "UINT8", np.float32: "FP32"}[onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).type]
    batch, *shape = kind.shape.dim
    assert batch.dim_param == "batch"
    return Tensor(value.name, dtype, tuple(dim.dim_value for dim in shape))


def test_both_networks_are_shipped_in_full_precision_and_for_cpus() -> None:
    assert {(model, path.name) for model, path in NETWORKS} == {
        (model, name) for model in (DETECTOR, SEGMENTER) for name in ("model.onnx", "model_cpu.onnx")
    }


@pytest.mark.parametrize(("model", "path"), NETWORKS, ids=["/".join(path.parts[-3:]) for _, path in NETWORKS])
def test_tensors_are_the_contracts(model: Model, path: Path) -> None:
    graph = onnx.load(path).graph
    assert tuple(map(tensor, graph.input)) == model.inputs
    assert tuple(map(tensor, graph.output)) == model.outputs


def test_the_networks_of_a_version_take_60_mb_of_git_at_most() -> None:
    newest = max(int(path.parent.name) for _, path in NETWORKS)
    assert sum(path.stat().st_size for _, path in NETWORKS if int(path.parent.name) == newest) <= 60e6
