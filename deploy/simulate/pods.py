"""What becomes of requests in the pods: the probability of each number of them in a pod, over time.

A pod is a queue of the kind M/M/c/K (Kleinrock, Queueing Systems, volume 1): requests come at random, `c` are worked on
at a time, and at most `K` are there. Every pod gets an equal share at random, so one distribution stands for all of
them, be they three or a thousand: new pods, which are empty, are mixed into it. Real service times vary less than these
do, so real queues are shorter, down to about half.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dgtsv
from scipy.special import gammainc


@dataclass(frozen=True)
class Service:
    """What a pod can do, as measured.

    Attributes:
        latency_s: how long an answer takes when nothing else is asked, in seconds.
        throughput: requests a second when it is full.
        queue_capacity: how many requests may wait; more are refused.
    """

    latency_s: float
    throughput: float
    queue_capacity: int

    @property
    def servers(self) -> int:
        """How many requests a full pod works on at a time, by Little's law."""
        return max(1, round(self.latency_s * self.throughput))

    @property
    def states(self) -> int:
        """How many numbers of requests in a pod there are, 0 among them."""
        return self.servers + self.queue_capacity + 1


class Pods:
    """The distribution of the number of requests in a pod.

    Attributes:
        probability: float [states], of 0, 1, … requests.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._requests = np.arange(service.states)
        self._busy = np.minimum(self._requests, service.servers)
        self._served = self._busy * service.throughput / service.servers
        self.probability = self._empty()

    def pass_time(self, rate: float, seconds: float) -> None:
        """Lets time pass, with so many requests a second for each pod; a step of an implicit Euler scheme."""
        coming = np.full(self._service.states, rate)
        coming[-1] = 0.0
        below, above = -seconds * coming[:-1], -seconds * self._served[1:]
        # LAPACK itself: a day has 17,280 steps, and what SciPy checks around it takes longer than the solving.
        *_, self.probability, _ = dgtsv(below, 1 + seconds * (coming + self._served), above, self.probability)
        self.probability /= self.probability.sum()

    def join(self, new: int, pods: int) -> None:
        """Mixes new pods, which are empty, with those that there are."""
        self.probability = (pods * self.probability + new * self._empty()) / (pods + new)

    @property
    def in_flight(self) -> float:
        """The mean number of requests in a pod."""
        return float(self.probability @ self._requests)

    @property
    def waiting(self) -> float:
        """The mean number of them that wait."""
        return float(self.probability @ (self._requests - self._busy))

    def _empty(self) -> NDArray[np.float64]:
        empty = np.zeros(self._service.states)
        empty[0] = 1.0
        return empty


def latency_percentiles(service: Service, found: NDArray[np.float64], percents: tuple[float, ...]) -> list[float]:
    """How long answers take, in seconds.

    Args:
        service: what a pod can do.
        found: float [states], how many requests came to a pod that held 0, 1, … others; those of the last were refused.
        percents: which percentiles.

    Returns:
        Each; NaN if there are no requests.
    """
    taken = found[:-1]
    if not taken.sum():
        return [float("nan")] * len(percents)
    # Who finds all busy waits until as many have left, at the rate of a full pod: an Erlang distribution.
    ahead = np.arange(len(taken)) - service.servers + 1
    waits, weights = ahead[ahead > 0], taken[ahead > 0] / taken.sum()
    none = 1 - weights.sum()

    def share_within(wait: float) -> float:
        return float(none + weights @ gammainc(waits, service.throughput * wait))

    answers = []
    for percent in percents:
        low, high = 0.0, 4 * service.states / service.throughput
        if none >= percent / 100:
            high = 0.0
        while high - low > 1e-4 * (service.latency_s + low):
            middle = (low + high) / 2
            low, high = (middle, high) if share_within(middle) < percent / 100 else (low, middle)
        answers.append(service.latency_s + high)
    return answers
