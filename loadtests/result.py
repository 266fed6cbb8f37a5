"""What a stage came to: its figures, whether they can be trusted, and where the time went."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from gliogate.contract import ENSEMBLE
from loadtests.histogram import Histogram
from loadtests.record import Record
from loadtests.stage import Stage

PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0, 99.9)

DOUBT_SLICES, DOUBT_SHARE = 32, 0.1
"""By how many slices, and which share of them besides, the counts of client and server may differ: those under way when
the server was asked are on one side only."""


@dataclass(frozen=True)
class StageResult:
    """One stage, and what became of it.

    Attributes:
        stage: what was asked for.
        record: what was counted.
        server: what the server counted over the same window, see `loadtests.server_view.between`.
        late_ms: by how much the 99th percentile of the requests may have been sent late.
        workers: those that sent; none where it was this process alone.
        lost: workers that were lost on the way.
        was_interrupted: whether it was ended before its time.
    """

    stage: Stage
    record: Record
    server: dict[str, Any] = field(default_factory=dict)
    late_ms: float = 10.0
    workers: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    was_interrupted: bool = False

    @property
    def faults(self) -> list[str]:
        """Why this says nothing about the server; empty for a run that is valid."""
        record, found = self.record, []
        if not record.sent:
            return ["no request was sent"]
        # A worker that was lost told what it had sent, and not what it had still to send.
        if (unsent := record.scheduled - record.sent) > 0:
            found.append(f"{unsent} of {record.scheduled} requests were never sent: the generator fell behind")
        late_s = record.late.percentile(99)
        if self.stage.is_open and late_s is not None and 1000 * late_s > self.late_ms:
            found.append(
                f"the generator fell behind: 1% of the requests were sent more than {1000 * late_s:.1f} ms late "
                f"({self.late_ms:g} ms are allowed), the latest {1000 * (record.late.longest_s or 0):.1f} ms"
            )
        if record.inherited:
            found.append(f"{record.inherited} requests of earlier stages were still under way when it began")
        found += [f"worker {worker} was lost, and what it had not yet told" for worker in self.lost]
        return found

    @property
    def failures(self) -> str | None:
        """How many requests failed and of what, in words; None where none did."""
        failed = self.figures["failed"]
        if not failed:
            return None
        kinds = self.record.total.errors + Counter({"unfinished": self.record.unfinished})
        told = ", ".join(f"{count} {name}" for name, count in kinds.most_common())
        return f"{'all' if not self.figures['answered'] else failed} of {self.record.sent} requests failed: {told}"

    @property
    def doubt(self) -> str | None:
        """Why the server's view is not that of this stage's requests alone; None where both sides counted the same."""
        seen, answered = self.server.get("models", {}).get(ENSEMBLE.name), self.record.total.slices
        if seen is None:
            return None
        slack = DOUBT_SLICES + DOUBT_SHARE * answered
        if seen["slices"] < answered - slack:
            return (
                f"{seen['slices']} slices were counted by the server that was asked, {answered} answered: "
                "others answered too (several behind one address?), and are not in this view"
            )
        if seen["slices"] > answered + slack and not self.figures["failed"]:
            return (
                f"{seen['slices']} slices were counted by the server that was asked, {answered} answered: "
                "somebody else sends to it too, and is in this view"
            )
        return None

    @property
    def elapsed_s(self) -> float:
        """For how long requests were sent and answers counted: less than was planned where it ended early."""
        return self.record.end_s or self.stage.counted_s

    @property
    def figures(self) -> dict[str, float | int | None]:
        """The figures, flat: rates a second, durations in milliseconds, shares from 0 to 1.

        `rate` and `throughput` are of the answers that came in the time that counts, whenever their requests were sent:
        to leave out those that were sent in the warm-up would tell less than the server bears.
        """
        record, total, elapsed_s = self.record, self.record.total, self.elapsed_s
        answered, failed = total.corrected.count, total.failed + record.unfinished
        sent, is_open = record.sent, self.stage.is_open
        return {
            "requests": sent,
            "answered": answered,
            "failed": failed,
            "slices": total.slices,
            "opened": total.opened,
            "suspicious": total.suspicious,
            # A worker that was lost told what it sent, and not what was still to be sent.
            "offered_rate": max(record.scheduled, sent) / elapsed_s if is_open and elapsed_s > 0 else None,
            "rate": record.answered / elapsed_s if elapsed_s > 0 else None,
            "throughput": record.slices / elapsed_s if elapsed_s > 0 else None,
            "errors": failed / sent if sent else None,
            **latencies(total.corrected),
            **{f"service_{name}": value for name, value in latencies(total.service).items()},
            **{f"late_{name}": value for name, value in latencies(record.late if is_open else Histogram()).items()},
            "sent_bytes": total.sent_bytes,
            "received_bytes": total.received_bytes,
        }

    @property
    def breakdown(self) -> dict[str, float | None] | None:
        """Where the mean request's time went, in milliseconds; None where the server did not say.

        `generator` is from its schedule to its sending, `network` what is left when the server's own time is taken from
        the rest: the way there and back, with what the client and the server's front door make of the bytes. That is
        None where nothing is left: the server also counts what the client does not, requests that were sent in the
        warm-up and those that nobody waited for any more, and their mean was the longer one. None of all of it also
        where calls had several slices, each of which is a request to the server.
        """
        inside, total = self.server.get("breakdown"), self.record.total
        corrected, service = total.corrected.mean_s, total.service.mean_s
        if not inside or corrected is None or service is None or total.slices != total.corrected.count:
            return None
        network = 1000 * service - sum(inside.values())
        return {"generator": 1000 * (corrected - service), "network": network if network >= 0 else None, **inside}

    def to_json(self) -> dict[str, Any]:
        """As the report's JSON has it."""
        return {
            "name": self.stage.name,
            "is_valid": not self.faults,
            "faults": self.faults,
            "doubt": self.doubt,
            "was_interrupted": self.was_interrupted,
            "figures": self.figures,
            "errors": dict(self.record.total.errors) | {"unfinished": self.record.unfinished},
            "breakdown_ms": self.breakdown,
            "server": self.server,
            "workers": list(self.workers),
            "lost": list(self.lost),
            "late_ms": self.late_ms,
            "stage": self.stage.to_json(),
            "record": self.record.to_json(),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "StageResult":
        """What `to_json` was called on."""
        return cls(
            Stage.from_json(content["stage"]),
            Record.from_json(content["record"]),
            content["server"],
            content["late_ms"],
            tuple(content.get("workers", ())),
            tuple(content["lost"]),
            content["was_interrupted"],
        )


def latencies(histogram: Histogram) -> dict[str, float | None]:
    """Mean, percentiles and maximum of a histogram, in milliseconds."""
    values = {
        "mean": histogram.mean_s,
        **{f"p{percent:g}": histogram.percentile(percent) for percent in PERCENTILES},
        "max": histogram.longest_s,
    }
    return {f"{name}_ms": None if value is None else 1000 * value for name, value in values.items()}
