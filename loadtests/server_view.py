"""What the server says of the same window: Triton's statistics and metrics, before a stage and after it."""

import re
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from gliogate.connection import Connection
from gliogate.contract import DETECTOR, ENSEMBLE, MODELS, SEGMENTER
from loadtests.settings import Settings

TIMEOUT_S: Final = 2.0
PHASES: Final = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class ModelCounts:
    """What Triton has counted of one model.

    Attributes:
        requests: how many, by phase; `fail` are those that failed.
        seconds: that they spent, by phase, all requests together.
        slices: how many it answered about.
        batches: how many executions there were, by the slices in them.
    """

    requests: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    slices: int = 0
    batches: Counter[int] = field(default_factory=Counter)

    def since(self, before: "ModelCounts") -> "ModelCounts":
        """What was counted after `before`."""
        return ModelCounts(
            _less(self.requests, before.requests),
            _less(self.seconds, before.seconds),
            self.slices - before.slices,
            _less(self.batches, before.batches),
        )


@dataclass(frozen=True)
class Snapshot:
    """What the server had counted at one time.

    Attributes:
        models: by name.
        metrics: values by family and labels, `nv_inference_count{model="…",version="3"}` as in the page itself.
        gaps: what could not be asked, and why.
    """

    models: dict[str, ModelCounts] = field(default_factory=dict)
    metrics: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()


class ServerView:
    """Asks a server for its counts.

    Args:
        settings: where it is.
    """

    def __init__(self, settings: Settings) -> None:
        self._connection = Connection.to(settings.url, tls=settings.tls(), token=settings.token)
        tls = self._connection.tls
        self._triton = InferenceServerClient(
            self._connection.target,
            creds=tls.credentials() if tls else None,
            channel_args=self._connection.channel_options(),
        )
        self._metrics_url = settings.metrics_url

    def snapshot(self) -> Snapshot:
        """What it has counted until now. What cannot be asked is a gap, and no error."""
        gaps, models, metrics = [], {}, {}
        try:
            models = {model.name: self._statistics(model.name) for model in MODELS}
        except InferenceServerException as error:
            gaps.append(f"no statistics: {error.message()}")
        try:
            metrics = read_metrics(self._page())
        except (OSError, ValueError) as error:
            gaps.append(f"no metrics from {self._metrics_url}: {error}")
        return Snapshot(models, metrics, tuple(gaps))

    def close(self) -> None:
        """Ends the connection."""
        self._triton.close()

    def _statistics(self, model: str) -> ModelCounts:
        answer = self._triton.get_inference_statistics(
            model, headers=self._connection.headers(), client_timeout=TIMEOUT_S
        )
        return read_statistics(answer.model_stats)

    def _page(self) -> str:
        if not self._metrics_url.startswith(("http://", "https://")):
            raise ValueError("expected http://HOST:PORT/metrics")
        with urllib.request.urlopen(self._metrics_url, timeout=TIMEOUT_S) as answer:  # noqa: S310  it is http
            return str(answer.read().decode())


def read_statistics(versions: Any) -> ModelCounts:
    """Adds up what Triton says of the versions of a model, `ModelStatistics` of its protocol."""
    requests: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    batches: Counter[int] = Counter()
    for version in versions:
        for phase in PHASES:
            duration = getattr(version.inference_stats, phase)
            requests[phase] += duration.count
            seconds[phase] += duration.ns / 1e9
        for batch in version.batch_stats:
            batches[batch.batch_size] += batch.compute_infer.count
    return ModelCounts(requests, seconds, sum(version.inference_count for version in versions), batches)


def read_metrics(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples of a page in Prometheus's text format, by family and labels."""
    return {
        (name, tuple(sorted(_LABEL.findall(labels)))): float(value) for name, labels, value in _SAMPLE.findall(page)
    }


def between(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """What happened between two snapshots, as a report has it.

    Returns:
        `models`: of each what it counted, `queue_ms` and the like as means over its requests; `gate`: what gliogate's
        own counters say; `refused` and `cancelled` requests; `gpu`: of each its memory and use at the end; `breakdown`:
        see `breakdown`; `gaps`: what could not be asked.
    """
    models = {name: counts.since(before.models[name]) for name, counts in after.models.items() if name in before.models}
    grown = {key: value - before.metrics.get(key, 0.0) for key, value in after.metrics.items()}
    failures = _by_label(grown, "nv_inference_request_failure", "reason", model=ENSEMBLE.name)
    requests = _by_label(grown, "gliogate_requests_total", "outcome")
    seconds = _by_label(grown, "gliogate_seconds_total", "stage")
    gate = {
        "requests": requests,
        "slices": _by_label(grown, "gliogate_slices_total", "decision"),
        "seconds": seconds,
        "batches": sum(_by_label(grown, "gliogate_batch_rows_count", "").values()),
        "rows": sum(_by_label(grown, "gliogate_batch_rows_sum", "").values()),
    }
    return {
        "models": {name: _told(counts) for name, counts in models.items()},
        "gate": gate if after.metrics else None,
        "refused": failures.get("REJECTED") if after.metrics else None,
        "cancelled": failures.get("CANCELED", 0) + requests.get("cancelled", 0) if after.metrics else None,
        "gpu": _gpus(after),
        "breakdown": _breakdown(models, seconds),
        "gaps": sorted({*before.gaps, *after.gaps}),
    }


def _told(counts: ModelCounts) -> dict[str, Any]:
    means = {
        f"{phase}_ms": 1000 * counts.seconds[phase] / counts.requests[phase] if counts.requests[phase] else None
        for phase in PHASES
    }
    executions = sum(counts.batches.values())
    return {
        "requests": counts.requests["success"],
        "failed": counts.requests["fail"],
        "slices": counts.slices,
        "executions": executions,
        "mean_batch": sum(size * count for size, count in counts.batches.items()) / executions if executions else None,
        "batches": {str(size): counts.batches[size] for size in sorted(counts.batches) if counts.batches[size]},
        **means,
    }


def _breakdown(models: dict[str, ModelCounts], stages: dict[str, float]) -> dict[str, float] | None:
    """Where the mean request was while the server had it, in milliseconds; None if it answered none.

    Triton times the queue and the execution of each request. How an execution's time divides between the detector, the
    segmenter and the gate around them is known for all executions together, from the gate's own clock, or without that
    from the networks' statistics; each request is given those shares.
    """
    counts = models.get(ENSEMBLE.name)
    if not counts or not counts.requests["success"]:
        return None
    per_request = {phase: 1000 * counts.seconds[phase] / counts.requests["success"] for phase in PHASES}
    execution = per_request["compute_infer"]
    if not sum(stages.values()):
        batches = max(1, sum(counts.batches.values()))
        networks = {"detector": models.get(DETECTOR.name), "segmenter": models.get(SEGMENTER.name)}
        stages = {name: seen.seconds["success"] for name, seen in networks.items() if seen}
        whole = max(sum(stages.values()), execution / 1000 * batches)
        stages["gate"] = whole - sum(stages.values())
    total = sum(stages.values()) or 1.0
    shares = {name: execution * stages.get(name, 0.0) / total for name in ("detector", "segmenter", "gate")}
    shares["gate"] += per_request["compute_input"] + per_request["compute_output"]
    return {"queue": per_request["queue"], **shares}


def _gpus(after: Snapshot) -> list[dict[str, Any]]:
    by_gpu: dict[str, dict[str, Any]] = {}
    names = {
        "nv_gpu_utilization": "use",
        "nv_gpu_memory_used_bytes": "memory_used_bytes",
        "nv_gpu_memory_total_bytes": "memory_total_bytes",
    }
    for (family, labels), value in after.metrics.items():
        gpu = dict(labels).get("gpu_uuid")
        if gpu and family in names:
            by_gpu.setdefault(gpu, {"gpu": gpu})[names[family]] = value
    return list(by_gpu.values())


def _by_label(
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float], family: str, label: str, **where: str
) -> dict[str, float]:
    found: dict[str, float] = {}
    for (name, labels), value in samples.items():
        values = dict(labels)
        if name == family and all(values.get(key) == wanted for key, wanted in where.items()):
            found[values.get(label, "")] = found.get(values.get(label, ""), 0.0) + value
    return found


def _less(after: Counter[Any], before: Counter[Any]) -> Counter[Any]:
    return Counter({key: value - before[key] for key, value in after.items()})
