"""How much memory of a GPU a pod takes: an estimate, by `python -m deploy.gpu_memory`.

Nothing here was measured on a GPU. What a network's graph says is counted: weights, and the tensors that are alive at
the same time while a full batch is computed. TensorRT fuses layers and so keeps fewer tensors; what
it takes for the convolutions' own work is not in a graph. What no graph says is taken from `Assumptions`.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxslim  # type: ignore[import-untyped]

from gliogate.contract import DETECTOR, MODELS, SEGMENTER

ROOT = Path(__file__).parents[1]
MIB = 2**20
IN_ALL = "in all"
INSTANCES = {"gpu": 2, "gpu_share": 1}
"""How many instances of each model the configurations for GPUs have."""

BATCH = 32
"""The largest in configs/gpu.pbtxt, and the largest shape that its engines are built for."""


@dataclass(frozen=True)
class Assumptions:
    """What no graph says, in MiB.

    Attributes:
        context: of CUDA, with the kernels of its libraries, in each process.
        session: what an instance takes beside the engine: ONNX Runtime's arena, and what convolutions work with.
        pool: Triton's for tensors, `--cuda-memory-pool-byte-size`.
        gate: CuPy's for a gate instance: a batch, its masks and their copies.
        build: what TensorRT takes while it builds an engine, one after the other; then it is free again.
    """

    context: int = 512
    session: int = 128
    pool: int = 64
    gate: int = 128
    build: int = 1024


@dataclass(frozen=True)
class Network:
    """What the graph of a network says, in bytes.

    Attributes:
        weights: of the engine.
        activations: that are alive at the same time, at most.
    """

    weights: int
    activations: int


def read_network(path: Path, batch: int = BATCH) -> Network:
    """Reads the memory that a network takes from its graph.

    Args:
        path: an ONNX file whose input's first dimension is the batch.
        batch: slices at a time.

    Raises:
        ValueError: a tensor's shape cannot be told.
    """
    model = onnx.load(path)
    (image,) = model.graph.input
    shape = [batch, *(each.dim_value for each in image.type.tensor_type.shape.dim[1:])]
    # With the batch known, what is computed of shapes alone is folded, and all other shapes can be told.
    slim = onnxslim.slim(model, input_shapes=[f"{image.name}:{','.join(map(str, shape))}"])
    graph = onnx.shape_inference.infer_shapes(slim, strict_mode=True, data_prop=True).graph
    sizes = {value.name: _tensor_bytes(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    last = {name: index for index, node in enumerate(graph.node) for name in node.input}
    last |= {value.name: len(graph.node) for value in graph.output}
    alive = sum(sizes[value.name] for value in graph.input)
    most = alive
    for index, node in enumerate(graph.node):
        alive += sum(sizes[name] for name in node.output)
        most = max(most, alive)
        done = {name for name in (*node.input, *node.output) if last.get(name, index) <= index}
        alive -= sum(sizes.get(name, 0) for name in done)
    weights = sum(_itemsize(each.data_type) * math.prod(each.dims) for each in graph.initializer)
    return Network(weights, most)


def estimate(networks: dict[str, Network], instances: int, assumed: Assumptions) -> dict[str, float]:
    """What a pod takes of one GPU, in MiB, by what takes it.

    Args:
        networks: of the pod, by name.
        instances: how many there are of the gate, and of each network.
        assumed: what the graphs do not say.
    """
    parts: dict[str, float] = {"CUDA, in Triton and each instance of the gate": (1 + instances) * assumed.context}
    for name, network in networks.items():
        parts[name] = instances * ((network.weights + network.activations) / MIB + assumed.session)
    parts |= {"the gate's arrays": instances * assumed.gate, "Triton's pool": assumed.pool}
    total = sum(parts.values())
    return parts | {IN_ALL: total, "in all, while engines are built": total + assumed.build}


def read_networks(repository: Path) -> dict[str, Network]:
    """Reads the networks that the newest versions of a repository serve on GPUs, by name."""
    found = {}
    for model in MODELS:
        if model in (DETECTOR, SEGMENTER):
            newest = max((repository / model.name).glob("[0-9]*"), key=lambda folder: int(folder.name))
            found[model.name] = read_network(newest / "model_gpu.onnx")
    return found


def _itemsize(kind: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _tensor_bytes(value: onnx.ValueInfoProto) -> int:
    tensor = value.type.tensor_type
    dims: list[int] = [each.dim_value for each in tensor.shape.dim]
    if not all(dims):
        message = f"tensor '{value.name}' has the shape {dims}, of which a 0 is not known"
        raise ValueError(message)
    return math.prod(dims) * _itemsize(tensor.elem_type)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the estimate as a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m deploy.gpu_memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository", metavar="FOLDER")
    parser.add_argument("--context", type=int, default=512, metavar="MIB", help="of CUDA, in each process (512)")
    options = parser.parse_args(arguments)
    assumed = Assumptions(context=options.context)
    networks = read_networks(options.repository)
    for name, network in networks.items():
        print(f"{name}: weights {network.weights / MIB:.0f} MiB, activations {network.activations / MIB:.0f} MiB")
    columns = [estimate(networks, instances, assumed) for instances in INSTANCES.values()]
    heads = (f"`{name}`, instances: {instances}" for name, instances in INSTANCES.items())
    print(f"\n| MiB | {' | '.join(heads)} |\n|---|{'---|' * len(columns)}")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(f'{column[name]:.0f}' for column in columns)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
