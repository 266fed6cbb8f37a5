"""What the server says of the same window: Triton's statistics and metrics, before a stage and after it.

Where several servers share the requests, each of them is asked, and what they counted is added up. Several behind one
address cannot be told apart: what does not fit together is left out and said, see also `StageResult.doubt`.
"""

import re
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from typing import Any, Final

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from gliogate.connection import Connection
from gliogate.contract import DETECTOR, ENSEMBLE, NEEDED, SEGMENTER
from loadtests.settings import Settings

TIMEOUT_S: Final = 2.0
AT_A_TIME: Final = 16
"""How many servers are asked at a time."""
COUNTED_WITHIN_S: Final = 0.2
"""An answer is counted once it was sent: by Triton at once, by the gate within half of this."""

_DNS: Final = "dns:///"
PHASES: Final = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
# A proxy of the environment is none to the servers: the page would be another's, or none.
_HTTP: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_COUNTERS: Final = (
    "nv_inference_request_failure",
    "gliogate_requests_total",
    "gliogate_seconds_total",
    "gliogate_slices_total",
    "gliogate_suspicious_slices_total",
    "gliogate_batch_rows_count",
    "gliogate_batch_rows_sum",
)
"""Those of the metrics that only grow, and are told."""

Metrics = dict[tuple[str, tuple[tuple[str, str], ...]], float]


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

    def add(self, other: "ModelCounts") -> "ModelCounts":
        """What both have counted."""
        return ModelCounts(
            _sum(self.requests, other.requests),
            _sum(self.seconds, other.seconds),
            self.slices + other.slices,
            _sum(self.batches, other.batches),
        )

    @property
    def is_possible(self) -> bool:
        """Whether it was counted by one server: another one, or one that was started anew, may have counted less."""
        return min([self.slices, *self.requests.values(), *self.batches.values()]) >= 0


@dataclass(frozen=True)
class Snapshot:
    """What one server had counted at one time.

    Attributes:
        models: by name.
        metrics: values by family and labels, `nv_inference_count{model="…",version="3"}` as in the page itself.
        gaps: what could not be asked, and why.
    """

    models: dict[str, ModelCounts] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)
    gaps: tuple[str, ...] = ()


Snapshots = Mapping[str, Snapshot]
"""Of each server, by its address."""


class ServerView:
    """Asks a server, or each of several, for its counts.

    Args:
        settings: where they are. A name that stands for several, `dns:///HOST:PORT`, is looked up each time.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._servers: dict[str, _Server] = {}

    def snapshot(self, *, under_load: bool = False) -> Snapshots:
        """What they have counted until now. What cannot be asked is a gap, and no error.

        Args:
            under_load: answers go on coming, so that there is nothing to be gained by waiting for the last to count.
        """
        if not under_load:
            time.sleep(COUNTED_WITHIN_S)
        try:
            pages = addresses(self._settings)
        except OSError as error:
            return {self._settings.url: Snapshot(gaps=(f"no address of {self._settings.url}: {error}",))}
        for address, page in pages.items():
            if address not in self._servers:
                self._servers[address] = _Server(self._settings, address, page)
        # All at once: the windows are to be the same.
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            found = pool.map(lambda address: self._servers[address].snapshot(), pages)
            return dict(zip(pages, found, strict=True))

    def close(self) -> None:
        """Ends the connections."""
        for server in self._servers.values():
            server.close()


def addresses(settings: Settings) -> dict[str, str | None]:
    """The addresses of all servers, HOST:PORT, each with its page of metrics; None where that has none of its own.

    Raises:
        OSError: a name cannot be looked up.
    """
    given, pages = settings.url.split(","), settings.metrics_url.split(",")
    if len(given) == len(pages) > 1:
        return dict(zip(given, pages, strict=True))
    host, _, port = given[0].removeprefix(_DNS).rpartition(":")
    if given[0].startswith(_DNS):
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        numbers = sorted({str(address[0]) for *_, address in found})
        given = [f"[{number}]:{port}" if ":" in number else f"{number}:{port}" for number in numbers]
    prefix, at_host, rest = pages[0].partition(f"//{host}")
    if at_host:
        return {address: f"{prefix}//{address.rpartition(':')[0]}{rest}" for address in given}
    return dict.fromkeys(given, None) | {given[0]: pages[0]}


class _Server:
    """One server, at an address of its own."""

    def __init__(self, settings: Settings, address: str, metrics_url: str | None) -> None:
        tls = settings.tls()
        if tls and settings.url.startswith(_DNS):
            # Its certificate has the name that was looked up.
            tls = replace(tls, server_name=settings.url.removeprefix(_DNS).rpartition(":")[0])
        self._connection = Connection.to(address, tls=tls, token=settings.token)
        self._triton = InferenceServerClient(
            self._connection.target,
            creds=tls.credentials() if tls else None,
            channel_args=self._connection.channel_options(),
        )
        self._address, self._metrics_url = address, metrics_url

    def snapshot(self) -> Snapshot:
        gaps: list[str] = []
        models: dict[str, ModelCounts] = {}
        metrics: Metrics = {}
        try:
            models = {model.name: self._statistics(model.name) for model in NEEDED}
        except InferenceServerException as error:
            gaps.append(f"no statistics from {self._address}: {error.message()}")
        try:
            metrics = read_metrics(self._page()) if self._metrics_url else {}
        except (OSError, ValueError, HTTPException) as error:
            gaps.append(f"no metrics from {self._metrics_url}: {error}")
        return Snapshot(models, metrics, tuple(gaps))

    def close(self) -> None:
        self._triton.close()

    def _statistics(self, model: str) -> ModelCounts:
        answer = self._triton.get_inference_statistics(
            model, headers=self._connection.headers(), client_timeout=TIMEOUT_S
        )
        return read_statistics(answer.model_stats)

    def _page(self) -> str:
        url = self._metrics_url or ""
        if not url.startswith(("http://", "https://")):
            raise ValueError("expected http://HOST:PORT/metrics")
        with _HTTP.open(url, timeout=TIMEOUT_S) as answer:
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


def read_metrics(page: str) -> Metrics:
    """The samples of a page in Prometheus's text format, by family and labels."""
    return {
        (name, tuple(sorted(_LABEL.findall(labels)))): float(value) for name, labels, value in _SAMPLE.findall(page)
    }


def between(before: Snapshots, after: Snapshots) -> dict[str, Any]:
    """What happened between two snapshots, as a report has it, of all servers together.

    Returns:
        `servers`: the addresses of those whose counts are in it; `models`: of each what it counted, `queue_ms` and the
        like as means over its requests; `gate`: what gliogate's own counters say; `refused` and `cancelled` requests;
        `gpu`: of each its memory and use at the end; `breakdown`: see `breakdown`; `gaps`: what could not be asked.
    """
    gaps = {gap for snapshot in (*before.values(), *after.values()) for gap in snapshot.gaps}
    gaps |= {f"{address} came or went: it is not in this view" for address in before.keys() ^ after.keys()}
    models: dict[str, ModelCounts] = {}
    grown: Metrics = {}
    servers = []
    for address in before.keys() & after.keys():
        counted, metrics = _since(before[address], after[address])
        if counted is None:
            gaps.add(f"{address} was started anew, or is several servers behind one address: it is not in this view")
            continue
        servers += [address] if counted else []
        for name, counts in counted.items():
            models[name] = counts.add(models.get(name, ModelCounts()))
        for key, value in metrics.items():
            grown[key] = grown.get(key, 0.0) + value
    has_metrics = bool(grown)
    failures = _by_label(grown, "nv_inference_request_failure", "reason", model=ENSEMBLE.name)
    requests = _by_label(grown, "gliogate_requests_total", "outcome")
    seconds = _by_label(grown, "gliogate_seconds_total", "stage")
    gate = {
        "requests": requests,
        "slices": _by_label(grown, "gliogate_slices_total", "decision"),
        # An older gate does not count them.
        "suspicious": _by_label(grown, "gliogate_suspicious_slices_total", "").get(""),
        "seconds": seconds,
        "batches": sum(_by_label(grown, "gliogate_batch_rows_count", "").values()),
        "rows": sum(_by_label(grown, "gliogate_batch_rows_sum", "").values()),
    }
    return {
        "servers": sorted(servers),
        "models": {name: _told(counts) for name, counts in models.items()},
        "gate": gate if has_metrics else None,
        "refused": failures.get("REJECTED") if has_metrics else None,
        "cancelled": failures.get("CANCELED", 0) + requests.get("cancelled", 0) if has_metrics else None,
        "gpu": [gpu for snapshot in after.values() for gpu in _gpus(snapshot)],
        "breakdown": _breakdown(models, seconds),
        "gaps": sorted(gaps),
    }


def _since(before: Snapshot, after: Snapshot) -> tuple[dict[str, ModelCounts] | None, Metrics]:
    """What a server counted in between; None where it cannot have been the same one both times."""
    models = {name: counts.since(before.models[name]) for name, counts in after.models.items() if name in before.models}
    grown = {key: value - before.metrics.get(key, 0.0) for key, value in after.metrics.items() if key[0] in _COUNTERS}
    # Without the page before, all that it has ever counted would seem to be of this window.
    grown = grown if before.metrics else {}
    if min(grown.values(), default=0.0) < 0 or not all(counts.is_possible for counts in models.values()):
        return None, {}
    return models, grown


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


def _by_label(samples: Metrics, family: str, label: str, **where: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for (name, labels), value in samples.items():
        values = dict(labels)
        if name == family and all(values.get(key) == wanted for key, wanted in where.items()):
            found[values.get(label, "")] = found.get(values.get(label, ""), 0.0) + value
    return found


def _sum(first: Counter[Any], second: Counter[Any]) -> Counter[Any]:
    return Counter({key: first[key] + second[key] for key in first | second})


def _less(after: Counter[Any], before: Counter[Any]) -> Counter[Any]:
    return Counter({key: value - before[key] for key, value in after.items()})
