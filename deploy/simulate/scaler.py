"""How many pods there shall be: the HorizontalPodAutoscaler of Kubernetes, by which KEDA scales too.

https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal

SYNC_S = 15.0
"""How often Kubernetes looks."""

TOLERANCE = 0.1
"""By how much a metric may be off its target before anything is done."""

Direction = Literal["scaleUp", "scaleDown"]


def wanted(pods: int, ratio: float, *, measured: int | None = None) -> int:
    """How many pods a metric asks for.

    Args:
        pods: how many there are, ready or not.
        ratio: the metric over its target.
        measured: the pods that the ratio is of; all where it is None.
    """
    of = pods if measured is None else measured
    return pods if abs(ratio - 1) <= TOLERANCE else math.ceil(round(ratio * of, 9))


@dataclass
class Scaler:
    """Follows what metrics ask for, as fast as `behavior` allows.

    Attributes:
        least: fewest pods.
        most: most pods.
        behavior: as in autoscaling/v2, both directions with a stabilization window, policies and selectPolicy.
    """

    least: int
    most: int
    behavior: Mapping[Direction, Mapping[str, Any]]
    _asked: deque[tuple[float, int]] = field(default_factory=deque)
    _changes: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, time_s: float, pods: int, asked: int) -> int:
        """How many pods there shall be from now on.

        Args:
            time_s: now, in seconds; later than at the last call.
            pods: how many there are.
            asked: how many the metric wants that wants most.
        """
        self._asked.append((time_s, asked))
        chosen = max(pods, min(each for _, each in self._within(self._asked, time_s, self._window("scaleUp"))))
        chosen = min(chosen, max(each for _, each in self._within(self._asked, time_s, self._window("scaleDown"))))
        if chosen > pods:
            chosen = min(chosen, max(pods, self._limit("scaleUp", time_s, pods)))
        elif chosen < pods:
            chosen = max(chosen, min(pods, self._limit("scaleDown", time_s, pods)))
        chosen = min(max(chosen, self.least), self.most)
        if chosen != pods:
            self._changes.append((time_s, chosen - pods))
        return chosen

    def _window(self, direction: Direction) -> float:
        return float(self.behavior[direction].get("stabilizationWindowSeconds", 0))

    def _limit(self, direction: Direction, time_s: float, pods: int) -> int:
        rules = self.behavior[direction]
        select = rules.get("selectPolicy", "Max")
        if select == "Disabled":
            return pods
        limits = [self._limit_of(direction, policy, time_s, pods) for policy in rules["policies"]]
        return max(limits) if (direction == "scaleUp") == (select == "Max") else min(limits)

    def _limit_of(self, direction: Direction, policy: Mapping[str, Any], time_s: float, pods: int) -> int:
        changed = sum(change for _, change in self._within(self._changes, time_s, policy["periodSeconds"]))
        sign = 1 if direction == "scaleUp" else -1
        before = pods - changed
        if policy["type"] == "Pods":
            return int(before + sign * policy["value"])
        after = before * (1 + sign * policy["value"] / 100)
        return math.ceil(round(after, 9)) if sign > 0 else int(round(after, 9))

    @staticmethod
    def _within(events: deque[tuple[float, int]], time_s: float, window_s: float) -> list[tuple[float, int]]:
        """Those of the last seconds; the newest one always."""
        while events and events[0][0] < time_s - 3600:  # The longest window that there may be.
            events.popleft()
        newest_first = reversed(events)
        return list(takewhile(lambda event: event[0] > time_s - window_s or event[0] == time_s, newest_first))
