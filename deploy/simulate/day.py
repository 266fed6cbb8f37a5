"""A day, step by step: load comes, pods answer, the scaler looks, pods start and go."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.simulate.load import Load
from deploy.simulate.pods import Pods, Service, latency_percentiles
from deploy.simulate.scaler import SYNC_S, Direction, Scaler, wanted

STEP_S = 5.0
METRIC_S = 60.0
"""Over how long the two metrics are means, see the chart's `autoscaling.targets`."""

PERIOD_S = 300.0
"""How finely the day is told."""

PERCENTS = (50.0, 95.0, 99.0)


@dataclass(frozen=True)
class Plan:
    """How the service is scaled; the chart's `autoscaling` and what a pod takes.

    Attributes:
        least: fewest pods, 1 or more.
        most: most pods.
        in_flight: the target, requests in a pod.
        queue_s: the target, how long a request waits, in seconds.
        behavior: as in autoscaling/v2.
        start_s: how long a pod takes from being asked for to being ready, in seconds.
        drain_s: how long one that goes keeps its GPUs, in seconds.
        gpus: GPUs, slices or shares of one that a pod has.
    """

    least: int
    most: int
    in_flight: float
    queue_s: float
    behavior: Mapping[Direction, Mapping[str, Any]]
    start_s: float
    drain_s: float
    gpus: int


@dataclass(frozen=True)
class Day:
    """What came of a plan.

    Attributes:
        plan: the plan.
        times_s: float [periods], when each period begins.
        rates: float [periods], requests a second, the mean.
        pods: float [periods], pods that are ready, the mean.
        p99_s: float [periods], latency of those that came then; NaN where nobody did.
        most_pods: that there were at a time, ready or not.
        latency_s: percentiles of the whole day, as in `PERCENTS`.
        requests: how many came.
        refused: the share of them that found the queue full.
        pod_hours: of all pods, from being asked for to being gone.
    """

    plan: Plan
    times_s: NDArray[np.float64]
    rates: NDArray[np.float64]
    pods: NDArray[np.float64]
    p99_s: NDArray[np.float64]
    most_pods: int
    latency_s: tuple[float, ...]
    requests: float
    refused: float
    pod_hours: float

    @property
    def gpu_hours(self) -> float:
        """Of all their GPUs."""
        return self.pod_hours * self.plan.gpus


def simulate(load: Load, service: Service, plan: Plan) -> Day:
    """Replays a load."""
    steps = math.ceil(load.duration_s / STEP_S)
    per_period = round(PERIOD_S / STEP_S)
    found = np.zeros((math.ceil(steps / per_period), service.states))
    ready_pods, rates = np.zeros(steps), np.zeros(steps)
    scaler = Scaler(plan.least, plan.most, plan.behavior)
    pods = Pods(service)
    # As many as the scaler would have, had it been there before.
    ready = min(max(plan.least, math.ceil(load.rate(0) * service.latency_s / plan.in_flight)), plan.most)
    starting: deque[tuple[float, int]] = deque()
    window: deque[tuple[float, float, float]] = deque(maxlen=round(METRIC_S / STEP_S))
    pod_s, most_pods = 0.0, ready
    for step in range(steps):
        time_s = step * STEP_S
        while starting and starting[0][0] <= time_s:
            _, new = starting.popleft()
            pods.join(new, ready)
            ready += new
        rate = load.rate(time_s + STEP_S / 2)
        pods.pass_time(rate / ready, STEP_S)
        found[step // per_period] += rate * STEP_S * pods.probability
        taken = rate * (1 - pods.probability[-1])
        window.append((ready * pods.in_flight, ready * pods.waiting, taken))
        ready_pods[step], rates[step] = ready, rate
        there = ready + sum(new for _, new in starting)
        most_pods = max(most_pods, there)
        pod_s += there * STEP_S
        if step % round(SYNC_S / STEP_S):
            continue
        in_flight, waiting, answered = np.mean(window, axis=0)
        by_load = wanted(there, in_flight / plan.in_flight / there)
        # What is waited is a mean over the pods that are ready.
        by_wait = wanted(there, waiting / max(answered, 1e-9) / plan.queue_s, measured=ready)
        chosen = scaler.decide(time_s, there, max(by_load, by_wait))
        if chosen > there:
            starting.append((time_s + plan.start_s, chosen - there))
        going = max(0, there - chosen)
        while going and starting:  # Those that are not ready go first.
            due, new = starting.pop()
            if new > going:
                starting.append((due, new - going))
            going -= min(new, going)
        ready -= going
        pod_s += going * plan.drain_s
    total = found.sum(axis=0)
    return Day(
        plan,
        np.arange(len(found)) * PERIOD_S,
        _by_period(rates, per_period),
        _by_period(ready_pods, per_period),
        np.array([latency_percentiles(service, each, (99.0,))[0] for each in found]),
        most_pods,
        tuple(latency_percentiles(service, total, PERCENTS)),
        float(total.sum()),
        float(total[-1] / total.sum()) if total.sum() else 0.0,
        pod_s / 3600,
    )


def _by_period(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return np.array([values[start : start + size].mean() for start in range(0, len(values), size)])
