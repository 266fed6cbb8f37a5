"""The live line: how a stage goes while it is on, and in a line what it came to."""

from rich.console import Console
from rich.live import Live
from rich.text import Text

from loadtests.histogram import Histogram
from loadtests.record import Record, Window
from loadtests.result import StageResult
from loadtests.stage import Stage

EVERY_S = 30.0
"""How often the line is told where it cannot be renewed."""

RECENT_S = 5
"""Over how many seconds the live percentiles are taken."""


class LiveLine:
    """A line on stderr. On a terminal it is renewed all the time; elsewhere, as in a pod's log, once in a while.

    Args:
        stages: how many there will be; 0 where nobody knows.
    """

    def __init__(self, *, stages: int = 0) -> None:
        self._console = Console(stderr=True)
        self._stages, self._told = stages, 0
        self._is_renewed = self._console.is_terminal
        self._next_s = EVERY_S
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        if self._is_renewed:
            self._live.start()

    def show(self, stage: Stage, record: Record, seconds: float) -> None:
        """Tells how a stage goes; see `loadtests.conductor.Show`."""
        if not self._is_renewed and seconds < self._next_s:
            return
        self._next_s += EVERY_S
        recent = Window()
        for second in sorted(record.windows)[-RECENT_S:]:
            recent.merge(record.windows[second])
        total = record.total
        until = f"/{stage.duration_s:.0f}" if not stage.calls else ""
        facts = [
            f"{min(seconds, stage.duration_s):.0f}{until} s",
            f"{record.late.count} requests",
            f"{record.slices / max(record.end_s, 1e-9):.1f} slices/s" if total.slices else "0 slices",
            _milliseconds(recent.corrected),
            f"{total.failed} errors",
        ]
        line = Text(f"{self._count()}{stage.name}  ", "bold") + Text("   ".join(facts))
        if self._is_renewed:
            self._live.update(line, refresh=True)
        else:
            self._console.print(line, style="dim", soft_wrap=True)

    def tell(self, result: StageResult, missed: list[str]) -> None:
        """Tells what a stage came to."""
        total = result.record.total
        figures = result.figures
        facts = [
            f"{result.record.sent} requests",
            f"{figures['throughput'] or 0:.1f} slices/s",
            _milliseconds(total.corrected),
            f"{figures['failed']} errors",
        ]
        line = Text(f"{self._count()}{result.stage.name}  ", "bold") + Text("   ".join(facts))
        self._told, self._next_s = self._told + 1, EVERY_S
        if result.failures:
            line += Text(f"\n  {result.failures}", "red")
        for fault in result.faults:
            line += Text(f"\n  invalid: {fault}", "bold red")
        for miss in missed:
            line += Text(f"\n  missed: {miss}", "bold red")
        self._console.print(line, soft_wrap=True)

    def say(self, text: str, style: str = "") -> None:
        """Says something else."""
        self._console.print(Text(text, style), soft_wrap=True)

    def note(self, text: str) -> None:
        """Says something by the way."""
        self.say(text, "dim")

    def _count(self) -> str:
        return f"{self._told + 1}/{self._stages}  " if self._stages > 1 else ""

    def close(self) -> None:
        """Takes the line away."""
        self._live.stop()


def _milliseconds(latency: Histogram) -> str:
    values = [latency.percentile(percent) for percent in (50, 99)]
    if None in values:
        return "no answer yet"
    return "   ".join(
        f"{name} {1000 * (value or 0):.0f} ms" for name, value in zip(("p50", "p99"), values, strict=True)
    )
