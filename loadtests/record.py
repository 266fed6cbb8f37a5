"""What was seen of the requests of one stage. Records of several processes merge into the one of all of them."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from loadtests.histogram import Histogram


@dataclass(frozen=True)
class Outcome:
    """What became of one request, or of several that one call of the SDK made.

    Attributes:
        call: the name of what was asked.
        due_s: when it was scheduled, in seconds from the beginning of the stage; in a closed loop, when it was sent.
        sent_s: when it was sent.
        done_s: when its answer, or its error, was there.
        slices: how many it asked about.
        opened: for how many the gate opened.
        suspicious: how many of those are.
        sent_bytes: of pixels, both ways without the wrapping.
        received_bytes: of tensors.
        error: the class of the error; None where there was an answer.
    """

    call: str
    due_s: float
    sent_s: float
    done_s: float
    slices: int
    opened: int = 0
    suspicious: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    error: str | None = None


@dataclass
class CallCounts:
    """What became of the requests of one kind. Only those that were answered have a latency.

    Attributes:
        corrected: latency from when a request was scheduled: what a user would have waited.
        service: latency from when it was sent.
        errors: how many failed, by class.
        slices: how many were answered for.
        opened: for how many of them the gate opened.
        suspicious: how many of those are; 0 in what was kept before they were counted.
        sent_bytes: see `Outcome`.
        received_bytes: see `Outcome`.
    """

    corrected: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    errors: Counter[str] = field(default_factory=Counter)
    slices: int = 0
    opened: int = 0
    suspicious: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0

    def add(self, outcome: Outcome) -> None:
        """Counts one more."""
        self.sent_bytes += outcome.sent_bytes
        if outcome.error is not None:
            self.errors[outcome.error] += 1
            return
        self.corrected.add(outcome.done_s - outcome.due_s)
        self.service.add(outcome.done_s - outcome.sent_s)
        self.slices += outcome.slices
        self.opened += outcome.opened
        self.suspicious += outcome.suspicious
        self.received_bytes += outcome.received_bytes

    def merge(self, other: "CallCounts") -> None:
        """Adds what another counted."""
        self.corrected.merge(other.corrected)
        self.service.merge(other.service)
        self.errors.update(other.errors)
        self.slices += other.slices
        self.opened += other.opened
        self.suspicious += other.suspicious
        self.sent_bytes += other.sent_bytes
        self.received_bytes += other.received_bytes

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(self.errors.values())

    def to_json(self) -> dict[str, Any]:
        """As a message or a report has it."""
        return vars(self) | {
            "corrected": self.corrected.to_json(),
            "service": self.service.to_json(),
            "errors": dict(self.errors),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "CallCounts":
        """What `to_json` was called on."""
        return cls(
            **content
            | {
                "corrected": Histogram.from_json(content["corrected"]),
                "service": Histogram.from_json(content["service"]),
                "errors": Counter(content["errors"]),
            }
        )


@dataclass
class Window:
    """One second of a stage: the requests that were due in it, and the answers that came in it.

    Attributes:
        sent: how many requests were due.
        failed: how many of them failed.
        slices: for how many the answers came, whenever they were asked for.
        in_flight: sum, over the requests, of how many others were under way when each was sent.
        corrected: latency from when they were due.
    """

    sent: int = 0
    failed: int = 0
    slices: int = 0
    in_flight: int = 0
    corrected: Histogram = field(default_factory=Histogram)

    def merge(self, other: "Window") -> None:
        """Adds what another counted."""
        self.sent += other.sent
        self.failed += other.failed
        self.slices += other.slices
        self.in_flight += other.in_flight
        self.corrected.merge(other.corrected)

    def to_json(self) -> dict[str, Any]:
        """As a message or a report has it."""
        return vars(self) | {"corrected": self.corrected.to_json()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Window":
        """What `to_json` was called on."""
        return cls(**content | {"corrected": Histogram.from_json(content["corrected"])})


@dataclass
class Record:
    """Everything counted about a stage.

    Attributes:
        scheduled: how many requests were to be sent.
        answered: how many answers came before `end_s`, those to requests that were sent in the warm-up included.
        slices: how many slices they were about.
        end_s: until when requests were sent and answers counted, in seconds from the beginning of the stage.
        unfinished: how many were sent, and had neither answer nor error when the stage was given up.
        inherited: how many of earlier stages were still under way when it began.
        late: by how much each request was sent after it was scheduled: the generator's own error.
        last_s: when the last answer came, in seconds from the beginning of the stage.
        calls: by the name of what was asked.
        windows: by the second, from the beginning of the stage, in which a request was due.
    """

    scheduled: int = 0
    answered: int = 0
    slices: int = 0
    end_s: float = 0.0
    unfinished: int = 0
    inherited: int = 0
    late: Histogram = field(default_factory=Histogram)
    last_s: float = 0.0
    calls: dict[str, CallCounts] = field(default_factory=dict)
    windows: dict[int, Window] = field(default_factory=dict)

    def add(self, outcome: Outcome, in_flight: int, *, is_in_time: bool = True) -> None:
        """Counts a request.

        Args:
            outcome: what became of it.
            in_flight: how many others were under way when it was sent.
            is_in_time: whether the answer came before the end.
        """
        self.late.add(outcome.sent_s - outcome.due_s)
        self.last_s = max(self.last_s, outcome.done_s)
        self.calls.setdefault(outcome.call, CallCounts()).add(outcome)
        window = self.windows.setdefault(int(outcome.due_s), Window())
        window.sent += 1
        window.in_flight += in_flight
        if outcome.error is None:
            window.corrected.add(outcome.done_s - outcome.due_s)
            if is_in_time:
                self.answer(outcome.done_s, outcome.slices)
        else:
            window.failed += 1

    def answer(self, done_s: float, slices: int) -> None:
        """Counts an answer to what the server bears, whether or not its request is one of this stage's."""
        self.answered += 1
        self.slices += slices
        self.windows.setdefault(int(done_s), Window()).slices += slices

    def give_up(self, due_s: float, sent_s: float, in_flight: int) -> None:
        """Counts a request that was sent and is no longer waited for; see `Outcome` and `add`."""
        self.unfinished += 1
        self.late.add(sent_s - due_s)
        window = self.windows.setdefault(int(due_s), Window())
        window.sent += 1
        window.failed += 1
        window.in_flight += in_flight

    def merge(self, other: "Record") -> None:
        """Adds what another process counted of the same stage."""
        self.scheduled += other.scheduled
        self.answered += other.answered
        self.slices += other.slices
        self.end_s = max(self.end_s, other.end_s)
        self.unfinished += other.unfinished
        self.inherited += other.inherited
        self.late.merge(other.late)
        self.last_s = max(self.last_s, other.last_s)
        for name, counts in other.calls.items():
            self.calls.setdefault(name, CallCounts()).merge(counts)
        for second, window in other.windows.items():
            self.windows.setdefault(second, Window()).merge(window)

    @property
    def total(self) -> CallCounts:
        """All calls together."""
        together = CallCounts()
        for counts in self.calls.values():
            together.merge(counts)
        return together

    @property
    def sent(self) -> int:
        """How many requests were sent, answered or not."""
        return self.late.count

    def to_json(self) -> dict[str, Any]:
        """As a message or a report has it."""
        return {
            "scheduled": self.scheduled,
            "answered": self.answered,
            "slices": self.slices,
            "end_s": self.end_s,
            "unfinished": self.unfinished,
            "inherited": self.inherited,
            "late": self.late.to_json(),
            "last_s": self.last_s,
            "calls": {name: counts.to_json() for name, counts in self.calls.items()},
            "windows": {str(second): self.windows[second].to_json() for second in sorted(self.windows)},
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Record":
        """What `to_json` was called on."""
        return cls(
            **content
            | {
                "late": Histogram.from_json(content["late"]),
                "calls": {name: CallCounts.from_json(counts) for name, counts in content["calls"].items()},
                "windows": {int(second): Window.from_json(window) for second, window in content["windows"].items()},
            }
        )
