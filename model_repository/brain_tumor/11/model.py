"""The gate on Triton: turns requests into arrays for `gating` or `heads`, and what they make of them into responses.

There are two models of it, and the operating point beside this file says which it is: with `neighbours`, a request
holds the slices of one head, which are judged together; without, it holds slices that have nothing to do with each
other, and several requests are joined to one batch.

Each network is called at most once for a group of requests, through BLS, and in the gate's own version: an operating
point says nothing of other networks. Triton never hands over more rows than the gate's `max_batch_size`, and the
networks take as many. An instance on a GPU works on its slices and masks there, with CuPy.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from . import gating, heads
from .counters import Counters, Stopwatch
from .neighbours import read_neighbours
from .refusals import Refusals
from .rehearsal import rehearse

try:
    import cupy
except ImportError as error:
    cupy = None
    NO_CUPY = str(error)

PROBE_ID = "gliogate-probe"
"""The id of the requests by which the chart's probes ask whether slices are answered."""


class NetworkError(Exception):
    """A network did not answer; `code` is Triton's own."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class TritonPythonModel:
    """One instance of the gate."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the operating point of the version that is being loaded, and tries the GPU that it is to work on."""
        point = Path(args["model_repository"]) / args["model_version"] / "operating_point.json"
        try:
            self._operating_point = gating.read_operating_point(point)
            self._reliability = gating.read_reliability(point)
            self._neighbours = read_neighbours(point)
        except (OSError, gating.InvalidValueError) as error:
            raise pb_utils.TritonModelException(str(error)) from error
        config = json.loads(args["model_config"])
        if self._neighbours is None:
            _check_reshape(config)
        self._version = args["model_version"]
        self._rows_at_once = _rows_at_once(config)
        self._counters = Counters()
        self._refusals = Refusals(lambda line: pb_utils.Logger.log_warn(f"{args['model_name']}: {line}"))
        self._device = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        if self._device is not None and cupy is None:
            pb_utils.Logger.log_warn(
                f"{args['model_name']}: without CuPy slices and masks go through host memory ({NO_CUPY})"
            )
            self._device = None
        if self._device is not None:
            _check_device(self._device)

    def execute(self, requests: list[Any]) -> list[None]:
        """Answers a batch, group by group; every answer was sent when this returns.

        A request that is wrong, or whose answer cannot be sent, fails alone.
        """
        begun = perf_counter()
        with nullcontext() if self._device is None else cupy.cuda.Device(self._device):
            read = [self._read(request) for request in requests]
            for group in gating.grouped([_rows(each) for each in read], self._rows_at_once):
                watch, tally = Stopwatch(), gating.Tally()
                outcomes = self._answer(read[group.start : group.stop], watch, tally)
                names = [self._send(requests[index], outcome) for index, outcome in zip(group, outcomes, strict=True)]
                self._count(names, tally, watch)
                if self._neighbours is None:  # A head takes as long as it has slices.
                    seconds = perf_counter() - begun
                    self._counters.request_seconds.add(seconds, sum(map(_is_timed, names, outcomes)))
                self._counters.tell_soon()
        return [None] * len(requests)

    def finalize(self) -> None:
        """Ends what goes on beside the batches."""
        self._counters.close()

    def _answer(self, outcomes: list[Any], watch: Stopwatch, tally: gating.Tally) -> list[Any]:
        """What becomes of some requests: their outputs, or what failed them."""
        with watch.stage("gate"):
            valid = [index for index, outcome in enumerate(outcomes) if not isinstance(outcome, Exception)]
            if valid:
                answers = self._run([outcomes[index] for index in valid], watch, tally)
                for index, answer in zip(valid, answers, strict=True):
                    outcomes[index] = answer
        return outcomes

    def _run(self, batch: list[Any], watch: Stopwatch, tally: gating.Tally) -> list[Any]:
        if self._neighbours is not None:
            return [self._try_head(head, watch, tally) for head in batch]
        outcomes = self._try(batch, watch, tally)
        if len(batch) > 1:
            # What a few requests are too much for together, memory for one, each may have alone. So nobody's size fails
            # a neighbour; for that a network which is broken is asked about each slice twice.
            for index, outcome in enumerate(outcomes):
                if isinstance(outcome, Exception) and _code(outcome) not in (
                    pb_utils.TritonError.UNAVAILABLE,
                    pb_utils.TritonError.CANCELLED,
                ):
                    [outcomes[index]] = self._try([batch[index]], watch, tally)
        return outcomes

    def _try(self, batch: list[gating.Request], watch: Stopwatch, tally: gating.Tally) -> list[Any]:
        try:
            return gating.run(
                batch,
                *self._networks(watch),
                xp=self._array_module(batch),
                tally=tally,
                reliability=self._reliability,
            )
        except Exception as error:
            return [gating.without_frames(error)] * len(batch)

    def _try_head(self, head: heads.Head, watch: Stopwatch, tally: gating.Tally) -> Any:
        try:
            return heads.run(
                head,
                *self._networks(watch),
                self._neighbours,
                at_once=self._rows_at_once,
                xp=self._array_module([head.request]),
                tally=tally,
                reliability=self._reliability,
            )
        except Exception as error:
            return gating.without_frames(error)

    def _networks(self, watch: Stopwatch) -> tuple[Any, Any]:
        """The detector and the segmenter, as functions of slices."""
        return (
            partial(_infer, watch, self._version, "detector", gating.TUMOR_PROBABILITY),
            partial(_infer, watch, self._version, "segmenter", gating.MASK_PROBABILITY),
        )

    def _array_module(self, batch: list[gating.Request]) -> Any:
        # A client's tensor may lie in a GPU's memory even where the gate does not.
        on_host = self._device is None and all(isinstance(request.images, np.ndarray) for request in batch)
        return np if on_host else cupy

    def _send(self, request: Any, outcome: dict[str, gating.Array] | Exception) -> str:
        """Answers a request; returns the outcome, or what kept it from being sent, as the counters have it."""
        sender: Any = None
        failure = None
        try:
            sender = request.get_response_sender()
            sender.send(_response(outcome), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception as error:
            failure = gating.without_frames(error)
        if failure is not None:
            outcome = failure
            # Without an end, Triton would wait for it. Where nobody is left to be told, that is no fault of the others.
            with suppress(Exception):
                sender.send(_response(failure), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        name, request_id = _name_of(outcome), _id_of(request)
        if isinstance(outcome, Exception) and name in ("invalid", "failed"):
            with suppress(Exception):  # Of a log that takes no line.
                self._refusals.tell(request_id, outcome)
        if request_id == PROBE_ID:
            return "probe" if name == "answered" else "probe_failed"
        return name

    def _count(self, names: list[str], tally: gating.Tally, watch: Stopwatch) -> None:
        for name, amount in Counter(names).items():
            self._counters.requests.add(amount, name)
        self._counters.slices.add(tally.opened, "opened")
        self._counters.slices.add(tally.shut, "shut")
        self._counters.suspicious.add(tally.suspicious)
        if tally.rows and self._neighbours is None:
            self._counters.batch_rows.add(tally.rows)
        for stage, seconds in watch.seconds.items():
            self._counters.seconds.add(seconds, stage)

    def _read(self, request: Any) -> gating.Request | heads.Head | Exception:
        try:
            image = _array(pb_utils.get_input_tensor_by_name(request, "image"))
            if self._neighbours is None:
                return self._request(request, gating.slices_of(image), _parameters(request))
            parameters, context = heads.split_context(_parameters(request))
            read = self._request(request, image, parameters)
            return heads.head_of(read, context=context, spacing_mm=_spacing(request))
        except Exception as error:
            # Whatever it is, it belongs to this request and to no other.
            return gating.without_frames(error)

    def _request(self, request: Any, images: gating.Array, parameters: dict[str, Any]) -> gating.Request:
        return gating.Request(
            images=images,
            settings=self._operating_point.updated(parameters),
            outputs=frozenset(request.requested_output_names()),
            is_cancelled=request.is_cancelled,
            # At the start a probe asks for a mask of a slice that shows nothing.
            is_counted=_id_of(request) != PROBE_ID,
        )


def _is_timed(name: str, outcome: dict[str, gating.Array] | Exception) -> bool:
    """Whether a request tells how long the gate takes: who gave it up before its turn waited elsewhere."""
    return name == "answered" or (name == "cancelled" and isinstance(outcome, gating.CancelledError) and outcome.begun)


def _check_device(device: int) -> None:
    """Refuses to be loaded where the gate's own work would fail, or every request would; compiles CuPy's kernels."""
    try:
        with cupy.cuda.Device(device):
            rehearse(cupy, passed_on=lambda array: _array(_tensor("image", array)))
    except Exception as error:
        raise pb_utils.TritonModelException(
            f"CuPy {cupy.__version__} does not work on GPU {device}, where the gate is to run: "
            f"{type(error).__name__}: {error}"
        ) from error


def _check_reshape(config: dict[str, Any]) -> None:
    """Refuses a configuration under which a request without rows would fail its whole batch; see `slices_of`."""
    expected = [1, *gating.SLICE]
    [image] = config["input"]
    found = [int(dim) for dim in image.get("reshape", {}).get("shape", [])]
    if found != expected:
        raise pb_utils.TritonModelException(
            f"config.pbtxt of {config['name']} has an older gate's input '{image['name']}': expected "
            f"reshape {{ shape: {expected} }}, found {found or 'none'}"
        )


def _parameters(request: Any) -> dict[str, Any]:
    try:
        text = request.parameters()
    except UnicodeDecodeError as error:
        raise gating.InvalidValueError("a parameter is not text in UTF-8") from error
    return gating.read_object(text or "{}")


def _id_of(request: Any) -> str:
    try:
        return str(request.request_id())
    except Exception:  # It is no text in UTF-8, say.
        return "?"


def _rows_at_once(config: dict[str, Any]) -> int:
    """How many slices are worked on and answered at once: all of a batch, unless the configuration says fewer."""
    text = config["parameters"].get("rows_at_once", {}).get("string_value", str(config["max_batch_size"]))
    if not text.isdecimal() or int(text) == 0:
        raise pb_utils.TritonModelException(f"parameter 'rows_at_once' is {text!r}, expected a positive number")
    return int(text)


def _rows(read: gating.Request | heads.Head | Exception) -> int:
    match read:
        case gating.Request():
            return len(read.images)
        case heads.Head():
            return len(read.request.images)
        case _:
            return 0


def _spacing(request: Any) -> float | None:
    """The distance between a head's slices in mm; None where the client does not say."""
    tensor = pb_utils.get_input_tensor_by_name(request, "slice_spacing_mm")
    return None if tensor is None else float(_array(tensor)[0])


def _infer(watch: Stopwatch, version: str, stage: str, output: str, images: gating.Array) -> gating.Array:
    """Returns one output of a network, in the memory that the images are in."""
    with watch.stage(stage):
        return _ask(f"tumor_{stage}", version, output, images)


def _ask(model: str, version: str, output: str, images: gating.Array) -> gating.Array:
    on_host = isinstance(images, np.ndarray)
    memory = (pb_utils.TRITONSERVER_MEMORY_CPU, 0) if on_host else (pb_utils.TRITONSERVER_MEMORY_GPU, images.device.id)
    request = pb_utils.InferenceRequest(
        model_name=model,
        model_version=int(version),
        inputs=[_tensor("image", images)],
        requested_output_names=[output],
        preferred_memory=pb_utils.PreferredMemory(*memory),
    )
    try:
        response = request.exec()
        if response.has_error():
            error = response.error()
            # In words alone Triton says that a network is not there; when the gate asks, it may be back already.
            is_gone = error.message().endswith("is not ready.") or not _is_ready(model, version)
            code = pb_utils.TritonError.UNAVAILABLE if is_gone else error.code()
            raise NetworkError(f"{model}: {error.message()}", code)
    except UnicodeDecodeError:  # Once in a while, what a server says of it that is stopping is no text.
        raise NetworkError(f"{model} did not answer", pb_utils.TritonError.UNAVAILABLE) from None
    answers = _array(pb_utils.get_output_tensor_by_name(response, output))
    return answers if on_host else cupy.asarray(answers)


def _is_ready(model: str, version: str) -> bool:
    """Whether a network is there; a server that is stopping takes it away from under the gate."""
    try:
        return pb_utils.is_model_ready(model, version)
    except pb_utils.TritonModelException:  # The server itself is not ready.
        return False


def _array(tensor: Any) -> gating.Array:
    if tensor.is_cpu():
        return tensor.as_numpy()
    if cupy is None:
        raise NetworkError(
            f"tensor '{tensor.name()}' is in GPU memory, and CuPy is not installed", pb_utils.TritonError.UNSUPPORTED
        )
    return cupy.from_dlpack(tensor.to_dlpack())


def _tensor(name: str, array: gating.Array) -> Any:
    return pb_utils.Tensor(name, array) if isinstance(array, np.ndarray) else pb_utils.Tensor.from_dlpack(name, array)


def _response(outcome: dict[str, gating.Array] | Exception) -> Any:
    if isinstance(outcome, Exception):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(outcome), _code(outcome)))
    return pb_utils.InferenceResponse([_tensor(name, array) for name, array in outcome.items()])


def _name_of(outcome: dict[str, gating.Array] | Exception) -> str:
    """An outcome as the counters have it."""
    if not isinstance(outcome, Exception):
        return "answered"
    names = {
        pb_utils.TritonError.INVALID_ARG: "invalid",
        pb_utils.TritonError.CANCELLED: "cancelled",
        pb_utils.TritonError.UNAVAILABLE: "unavailable",
    }
    return names.get(_code(outcome), "failed")


def _code(error: Exception) -> int:
    match error:
        case NetworkError():
            return error.code
        case gating.InvalidValueError():
            return pb_utils.TritonError.INVALID_ARG
        case gating.CancelledError():
            return pb_utils.TritonError.CANCELLED
        case _:
            return pb_utils.TritonError.INTERNAL
