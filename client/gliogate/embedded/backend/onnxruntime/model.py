"""A Triton backend for ONNX models, in Python: what `backend: "onnxruntime"` means where the C++ one is not installed.

The Triton in the PyPI wheel brings no backend but the Python one. Triton runs this file for every model that names
`onnxruntime`, in one process per instance, on the CPU. Of a model's configuration it honours what the C++ backend does
on a CPU, OpenVINO as the accelerator among it, checks the tensors against the ONNX file, and logs what it ignores.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils


class _Tensor(NamedTuple):
    """What an ONNX file says of an input or output: its type as Triton names it, and its shape, -1 where it is open."""

    datatype: str
    shape: list[int]


class _OnnxRuntime:
    """A network in ONNX Runtime."""

    name = "ONNX Runtime"

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        # Of the two engines, a process loads the one that it needs.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        level = onnxruntime.GraphOptimizationLevel
        # Numbered as the C++ backend does.
        options.graph_optimization_level = {
            -1: level.ORT_ENABLE_BASIC,
            0: level.ORT_ENABLE_ALL,
            1: level.ORT_ENABLE_EXTENDED,
            2: level.ORT_DISABLE_ALL,
        }[_graph_level(config)]
        options.intra_op_num_threads = _threads(config)
        options.inter_op_num_threads = _number(config, "inter_op_thread_count")
        if _number(config, "execution_mode"):
            options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        # Detector and segmenter share the cores: one that waits must not spin on them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {each.name: self._describe(each) for each in self._session.get_inputs()}
        self.outputs = {each.name: self._describe(each) for each in self._session.get_outputs()}

    def run(self, names: list[str], inputs: dict[str, Any]) -> list[Any]:
        """Returns the named outputs."""
        answers: list[Any] = self._session.run(names, inputs)
        return answers

    @staticmethod
    def ignored(_: dict[str, Any]) -> list[str]:
        """What of a configuration means nothing to it."""
        return []

    @staticmethod
    def _describe(tensor: Any) -> _Tensor:
        name = tensor.type.removeprefix("tensor(").removesuffix(")")
        named = {"float": "FP32", "double": "FP64", "float16": "FP16"}.get(name, name.upper())
        # A dimension that is open is a name or None.
        return _Tensor(f"TYPE_{named}", [dim if isinstance(dim, int) else -1 for dim in tensor.shape])


class _OpenVINO:
    """The same in OpenVINO: `cpu_execution_accelerator { name: "openvino" }`."""

    name = "OpenVINO"

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        # OpenVINO would count its users: with a number for this one, which it keeps in the home folder.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": _threads(config),
            "PERFORMANCE_HINT": "LATENCY",
            # It would tie its threads to the first cores, and those of the next process to the same ones.
            "ENABLE_CPU_PINNING": False,
            # What is not in 8 bits stays in 32, on processors with bfloat16, too: answers do not depend on them.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        network = openvino.Core().compile_model(path, "CPU", settings)
        configured = {tensor["name"] for tensor in (*config["input"], *config["output"])}
        self.inputs, self.outputs = (
            # Where nothing but an Identity is between two tensors, they become one that has both names.
            {name: self._describe(port) for port in ports for name in port.names & configured or {port.any_name}}
            for ports in (network.inputs, network.outputs)
        )
        self._request = network.create_infer_request()

    def run(self, names: list[str], inputs: dict[str, Any]) -> list[Any]:
        """Returns the named outputs."""
        self._request.infer(inputs, share_inputs=True)
        # Copies: what a request answers with is its own, and changes with the next.
        return [self._request.get_tensor(name).data.copy() for name in names]

    @staticmethod
    def ignored(config: dict[str, Any]) -> list[str]:
        """What of a configuration means nothing to it: what is said to ONNX Runtime of how it goes through a graph."""
        named = [name for name in ("inter_op_thread_count", "execution_mode") if name in config.get("parameters", {})]
        return [*named, *(["optimization.graph"] if "graph" in config.get("optimization", {}) else [])]

    @staticmethod
    def _describe(port: Any) -> _Tensor:
        name = port.get_element_type().get_type_name()
        kind = {"f": "FP", "i": "INT", "u": "UINT"}.get(name[0], name[0])
        named = "BOOL" if name == "boolean" else f"{kind}{name[1:]}".upper()
        return _Tensor(f"TYPE_{named}", [dim.get_length() if dim.is_static else -1 for dim in port.get_partial_shape()])


class TritonPythonModel:
    """One instance of a model: its ONNX file in an engine."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the ONNX file of the version that is being loaded, and checks its tensors."""
        config = json.loads(args["model_config"])
        filename = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / filename
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{path} is missing")
        engine = _engine(config)
        try:
            self._network = engine(path, config)
        except pb_utils.TritonModelException:
            raise
        except Exception as error:
            raise pb_utils.TritonModelException(
                f"{path} is not a model that {engine.name} can load: {error}"
            ) from error
        batched = config["max_batch_size"] > 0
        _check(path, "input", config["input"], self._network.inputs, batched=batched)
        _check(path, "output", config["output"], self._network.outputs, batched=batched)
        for setting in (*_ignored(config), *engine.ignored(config)):
            pb_utils.Logger.log_warn(f"{config['name']}: {setting} is ignored by {engine.name} on the CPU")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Runs the requests as one batch; if that fails, each alone, so that an error stays with its request."""
        try:
            return self._run(requests)
        except Exception as error:
            if len(requests) == 1:
                return [pb_utils.InferenceResponse(error=pb_utils.TritonError(_in_one_line(error)))]
            return [response for request in requests for response in self.execute([request])]

    def _run(self, requests: list[Any]) -> list[Any]:
        inputs = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        names = sorted({name for request in requests for name in request.requested_output_names()})
        if len(requests) == 1:
            outputs = self._network.run(names, inputs[0])
            return [_response(requests[0], dict(zip(names, outputs, strict=True)))]
        joined = {name: np.concatenate([arrays[name] for arrays in inputs]) for name in inputs[0]}
        outputs = self._network.run(names, joined)
        ends = np.cumsum([len(next(iter(arrays.values()))) for arrays in inputs])[:-1]
        parts = zip(*(np.split(output, ends) for output in outputs), strict=True)
        return [
            _response(request, dict(zip(names, part, strict=True)))
            for request, part in zip(requests, parts, strict=True)
        ]


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _response(request: Any, outputs: dict[str, Any]) -> Any:
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, outputs[name]) for name in request.requested_output_names()]
    )


def _engine(config: dict[str, Any]) -> type[_OnnxRuntime | _OpenVINO]:
    named = [accelerator["name"] for accelerator in _accelerators(config, "cpu_execution_accelerator")]
    if unknown := set(named) - {"openvino"}:
        raise pb_utils.TritonModelException(f"cpu_execution_accelerator is {', '.join(unknown)}, expected openvino")
    return _OpenVINO if named else _OnnxRuntime


def _accelerators(config: dict[str, Any], place: str) -> list[dict[str, Any]]:
    named: list[dict[str, Any]] = config.get("optimization", {}).get("execution_accelerators", {}).get(place, [])
    return named


def _graph_level(config: dict[str, Any]) -> int:
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    if level not in (-1, 0, 1, 2):
        raise pb_utils.TritonModelException(f"optimization.graph.level is {level}, expected -1, 0, 1 or 2")
    return level


def _threads(config: dict[str, Any]) -> int:
    """How many threads work on one batch: by default one on every core that this process may use."""
    return _number(config, "intra_op_thread_count") or len(os.sched_getaffinity(0))


def _number(config: dict[str, Any], name: str) -> int:
    """Returns a parameter that is a natural number, 0 where it is not set."""
    text = config.get("parameters", {}).get(name, {}).get("string_value", "0")
    if not text.isdecimal():
        raise pb_utils.TritonModelException(f"parameter '{name}' is '{text}', expected a number")
    return int(text)


def _check(
    path: Path, kind: str, configured: list[dict[str, Any]], found: dict[str, _Tensor], *, batched: bool
) -> None:
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
        datatype, shape = found[name]
        # The dimension of the batch must be open, the others may be.
        fits = (
            len(shape) == len(expected)
            and (not batched or shape[0] == -1)
            and all(-1 in pair or pair[0] == pair[1] for pair in zip(shape, expected, strict=True))
        )
        if datatype != tensor["data_type"] or not fits:
            raise pb_utils.TritonModelException(
                f"{kind} '{name}' is {datatype} {shape} in {path}, and {tensor['data_type']} {expected} in config.pbtxt"
            )


def _ignored(config: dict[str, Any]) -> list[str]:
    place = "gpu_execution_accelerator"
    ignored = [f"{place} '{accelerator['name']}'" for accelerator in _accelerators(config, place)]
    if any(group.get("kind") == "KIND_GPU" for group in config.get("instance_group", [])):
        ignored.append("instance_group kind KIND_GPU")
    return ignored
