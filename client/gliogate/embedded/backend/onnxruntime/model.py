"""A Triton backend for ONNX models, in Python: what `backend: "onnxruntime"` means where the C++ one is not installed.

The Triton in the PyPI wheel brings no backend but the Python one. Triton runs this file for every model that names
`onnxruntime`, in one process per instance, on the CPU. Of a model's configuration it honours what the C++ backend does
on a CPU, checks the tensors against the ONNX file, and logs what it ignores.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
"""`optimization.graph.level`, numbered as the C++ backend does."""

_DATATYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(double)": "TYPE_FP64",
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(string)": "TYPE_STRING",
    **{f"tensor({sign}int{bits})": f"TYPE_{sign}INT{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class TritonPythonModel:
    """One instance of a model: a session on its ONNX file."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the ONNX file of the version that is being loaded, and checks its tensors."""
        config = json.loads(args["model_config"])
        filename = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / filename
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{path} is missing")
        options = _session_options(config)
        try:
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise pb_utils.TritonModelException(f"{path} is not a model that ONNX Runtime can load: {error}") from error
        batched = config["max_batch_size"] > 0
        _check(path, "input", config["input"], self._session.get_inputs(), batched=batched)
        _check(path, "output", config["output"], self._session.get_outputs(), batched=batched)
        for setting in _ignored(config):
            pb_utils.Logger.log_warn(f"{config['name']}: {setting} is ignored, the embedded backend runs on the CPU")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Runs the requests as one batch; if that fails, each alone, so that an error stays with its request."""
        try:
            return self._run(requests)
        except Exception as error:
            if len(requests) == 1:
                return [pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))]
            return [response for request in requests for response in self.execute([request])]

    def _run(self, requests: list[Any]) -> list[Any]:
        inputs = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        names = sorted({name for request in requests for name in request.requested_output_names()})
        if len(requests) == 1:
            outputs = self._session.run(names, inputs[0])
            return [_response(requests[0], dict(zip(names, outputs, strict=True)))]
        joined = {name: np.concatenate([arrays[name] for arrays in inputs]) for name in inputs[0]}
        outputs = self._session.run(names, joined)
        ends = np.cumsum([len(next(iter(arrays.values()))) for arrays in inputs])[:-1]
        parts = zip(*(np.split(output, ends) for output in outputs), strict=True)
        return [
            _response(request, dict(zip(names, part, strict=True)))
            for request, part in zip(requests, parts, strict=True)
        ]


def _response(request: Any, outputs: dict[str, Any]) -> Any:
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, outputs[name]) for name in request.requested_output_names()]
    )


def _session_options(config: dict[str, Any]) -> ort.SessionOptions:
    graph_level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    if graph_level not in _GRAPH_LEVELS:
        raise pb_utils.TritonModelException(f"optimization.graph.level is {graph_level}, expected -1, 0, 1 or 2")
    options = ort.SessionOptions()
    options.graph_optimization_level = _GRAPH_LEVELS[graph_level]
    # By default every core that this process may use.
    options.intra_op_num_threads = _number(config, "intra_op_thread_count") or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = _number(config, "inter_op_thread_count")
    if _number(config, "execution_mode"):
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    # Detector and segmenter share the cores: one that waits must not spin on them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _number(config: dict[str, Any], name: str) -> int:
    """Returns a parameter that is a natural number, 0 where it is not set."""
    text = config.get("parameters", {}).get(name, {}).get("string_value", "0")
    if not text.isdecimal():
        raise pb_utils.TritonModelException(f"parameter '{name}' is '{text}', expected a number")
    return int(text)


def _check(path: Path, kind: str, configured: list[dict[str, Any]], actual: list[Any], *, batched: bool) -> None:
    found = {tensor.name: tensor for tensor in actual}
    if kind == "input" and (missing := found.keys() - {tensor["name"] for tensor in configured}):
        raise pb_utils.TritonModelException(f"{path} has inputs that config.pbtxt lacks: {', '.join(sorted(missing))}")
    for tensor in configured:
        name = tensor["name"]
        if name not in found:
            raise pb_utils.TritonModelException(
                f"{path} has no {kind} '{name}', as config.pbtxt says; it has {', '.join(sorted(found))}"
            )
        dims = [int(dim) for dim in tensor.get("reshape", tensor).get("shape", tensor["dims"])]
        expected = [-1, *dims] if batched else dims
        # A symbolic dimension is a name or None in ONNX Runtime. That of the batch must be one, the others may be.
        shape = [dim if isinstance(dim, int) else -1 for dim in found[name].shape]
        fits = (
            len(shape) == len(expected)
            and (not batched or shape[0] == -1)
            and all(-1 in pair or pair[0] == pair[1] for pair in zip(shape, expected, strict=True))
        )
        datatype = _DATATYPES.get(found[name].type, found[name].type)
        if datatype != tensor["data_type"] or not fits:
            raise pb_utils.TritonModelException(
                f"{kind} '{name}' is {datatype} {shape} in {path}, and {tensor['data_type']} {expected} in config.pbtxt"
            )


def _ignored(config: dict[str, Any]) -> list[str]:
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    ignored = [
        f"{place} '{accelerator['name']}'"
        for place in ("gpu_execution_accelerator", "cpu_execution_accelerator")
        for accelerator in accelerators.get(place, [])
    ]
    if any(group.get("kind") == "KIND_GPU" for group in config.get("instance_group", [])):
        ignored.append("instance_group kind KIND_GPU")
    return ignored
