"""Two runs held against each other, figure by figure: the difference, and whether chance explains it.

Requests of one run are no independent samples: those behind a slow one are slow too. So each stage is cut into blocks
of several seconds, each block gives one value of each figure, and the test of Mann and Whitney asks how often chance
would order the blocks of two equal servers as much apart. Failures come in bursts, which a gate has to find and a test
of blocks would put down to chance: they are compared by their number, with Fisher's exact test.

What is beyond the tolerance and significant, after Holm's correction over all figures, is a regression or an
improvement. What is beyond the tolerance alone is unclear: too little was measured to tell it from chance.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadtests.errors import ReportError
from loadtests.histogram import Histogram
from loadtests.record import Window
from loadtests.result import StageResult
from loadtests.stage import Stage

FORMAT: Final = 2
"""Of `report.json`; another one counted other things."""

BLOCKS: Final = 12
"""How many blocks a stage is cut into, where it is long enough."""

FEWEST_BLOCKS: Final = 4
"""With fewer blocks on each side no difference could be significant: the p of 3 against 3 is 0.1 or more."""

SIGNIFICANCE: Final = 0.05

ERROR_TOLERANCE: Final = 0.001
"""What a share of errors may grow by, whatever it was."""


@dataclass(frozen=True)
class Figure:
    """A figure that runs are compared by.

    Attributes:
        key: of the report's figures.
        name: what it is called.
        is_better_low: whether less of it is better.
        is_share: whether it is a share, of which the difference counts rather than the ratio.
    """

    key: str
    name: str
    is_better_low: bool = True
    is_share: bool = False

    def of(self, result: StageResult) -> float | None:
        """Its value in a whole stage; None where there is none."""
        if not self.key.endswith("_ms"):
            return result.figures[self.key]
        return self._percentile(result.record.total.corrected, result.record.total.failed + result.record.unfinished)

    def of_block(self, block: Window, seconds: float) -> float | None:
        """Its value in a block; None where there is none."""
        if self.key == "throughput":
            return block.slices / seconds
        return self._percentile(block.corrected, block.failed)

    def _percentile(self, latency: Histogram, failed: int) -> float | None:
        """In milliseconds; a request that failed is slower than any other, as to an objective."""
        value = latency.percentile(float(self.key.removeprefix("p").removesuffix("_ms")), failed)
        return None if value is None else 1000 * value


FIGURES: Final = (
    Figure("p50_ms", "p50"),
    Figure("p95_ms", "p95"),
    Figure("p99_ms", "p99"),
    Figure("throughput", "slices/s", is_better_low=False),
    Figure("errors", "errors", is_share=True),
)


@dataclass(frozen=True)
class Difference:
    """One figure of one stage in both runs.

    Attributes:
        stage: the stage's name.
        figure: which one.
        before: its value in the baseline.
        after: its value in the run.
        p_value: how often chance would make such a difference, after Holm's correction; None where there are too few
            blocks or calls to tell, or the stage is invalid in either run.
        verdict: `regression`, `improvement`, `same`, which is within the tolerance, or `unclear`.
    """

    stage: str
    figure: Figure
    before: float
    after: float
    p_value: float | None
    verdict: str

    @property
    def change(self) -> float | None:
        """The difference as a share of the baseline, or of shares the difference itself."""
        if self.figure.is_share:
            return self.after - self.before
        return self.after / self.before - 1 if self.before and math.isfinite(self.before + self.after) else None

    @property
    def told(self) -> str:
        """In words."""
        return f"{self.figure.name} was {self.before:.4g}, is {self.after:.4g}"

    def to_json(self) -> dict[str, Any]:
        """As the report's JSON has it; a percentile that failed requests make endless is null."""
        ends = {name: value if math.isfinite(value) else None for name, value in vars(self).items() if name in _ENDS}
        return vars(self) | ends | {"figure": self.figure.name, "change": self.change}


_ENDS: Final = ("before", "after")


def read_results(path: Path) -> list[StageResult]:
    """The stages of an earlier run.

    Raises:
        ReportError: the file cannot be read, or is no report of this suite.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ReportError(f"{path}: is a report of format {content['format']}, expected {FORMAT}: measure it anew")
        return [StageResult.from_json(stage) for stage in content["stages"]]
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"{path}: is no report.json as these load tests write it: {error!r}") from error


def check_comparable(before: Sequence[StageResult], stages: Sequence[Stage]) -> None:
    """Sees to it that a run's stages can be held against a baseline's.

    Raises:
        ReportError: they have no name in common, or another load under the same name.
    """
    baseline = {result.stage.name: result.stage for result in before}
    common = [(baseline[stage.name], stage) for stage in stages if stage.name in baseline]
    if not common:
        names = [" and ".join(sorted(names)) or "none" for names in (set(baseline), {stage.name for stage in stages})]
        raise ReportError(f"nothing to compare: the baseline has the stages {names[0]}, this run {names[1]}")
    for old, new in common:
        if differing := [name for name, value in _load(old).items() if value != _load(new)[name]]:
            told = "; ".join(f"{name} {_load(old)[name]} there, {_load(new)[name]} here" for name in differing)
            raise ReportError(f"the baseline's stage {old.name!r} is another load: {told}")


def _load(stage: Stage) -> dict[str, object]:
    """What has to be the same for latencies to mean the same. The seed and, at one rate, the duration need not be."""
    arrivals = stage.arrivals
    return {
        "users": stage.users,
        "arrivals": arrivals and (arrivals.process, arrivals.profile),
        "calls": (stage.mix, stage.calls),
        "prevalence": stage.prevalence,
    }


def too_short(stages: Sequence[Stage]) -> str | None:
    """Which stages have too few blocks for any latency to be significant, whatever it is; None for none of them."""
    tests = len(stages) * len(FIGURES)
    needed = next(n for n in range(FEWEST_BLOCKS, 100) if tests * 2 / math.comb(2 * n, n) < SIGNIFICANCE)
    short = [stage for stage in stages if stage.counted_s < needed and not stage.calls]
    if not short:
        return None
    each_s = math.ceil(max(needed + stage.warm_up_s for stage in short))
    told = f"{len(short)} of {len(stages)} stages are too short to be compared, but for their errors"
    return f"{told}: with {len(stages)} stages each has to last {each_s} s or longer"


def compare(
    before: Sequence[StageResult], after: Sequence[StageResult], *, tolerance: float = 0.05
) -> list[Difference]:
    """Compares the stages that both runs have, by name.

    Args:
        before: the baseline.
        after: the run.
        tolerance: a smaller change, as a share of the baseline, is none.

    Raises:
        ReportError: see `check_comparable`.
    """
    check_comparable(before, [result.stage for result in after])
    baseline = {result.stage.name: result for result in before}
    pairs = [(baseline[result.stage.name], result) for result in after if result.stage.name in baseline]
    rows = []
    for old, new in pairs:
        for figure in FIGURES:
            values = [figure.of(result) for result in (old, new)]
            if values[0] is None or values[1] is None:
                continue
            # What is invalid says nothing about the server, for better or worse.
            is_told = not old.faults and not new.faults
            p_value = _p_value(old, new, figure) if is_told else None
            rows.append((new.stage.name, figure, float(values[0]), float(values[1]), p_value))
    corrected = _holm([row[-1] for row in rows])
    return [
        Difference(stage, figure, old_value, new_value, p, _verdict(figure, old_value, new_value, p, tolerance))
        for (stage, figure, old_value, new_value, _), p in zip(rows, corrected, strict=True)
    ]


def _verdict(figure: Figure, before: float, after: float, p_value: float | None, tolerance: float) -> str:
    allowed = ERROR_TOLERANCE if figure.is_share else tolerance * before
    if after == before or abs(after - before) <= allowed < math.inf:
        return "same"
    if p_value is None or p_value >= SIGNIFICANCE:
        return "unclear"
    return "regression" if (after > before) == figure.is_better_low else "improvement"


def _blocks(result: StageResult, figure: Figure) -> list[float]:
    """A figure's value in each block of a stage."""
    seconds = int(result.elapsed_s)
    width = max(1, seconds // BLOCKS)
    values = []
    for first in range(0, seconds - width + 1, width):
        block = Window()
        for second in range(first, first + width):
            if window := result.record.windows.get(second):
                block.merge(window)
        value = figure.of_block(block, width)
        if value is not None:
            values.append(value)
    return values


def _p_value(before: StageResult, after: StageResult, figure: Figure) -> float | None:
    """How often chance would make two equal servers differ as much; None where too little was measured to tell."""
    from scipy.stats import fisher_exact, mannwhitneyu

    if figure.is_share:
        counts = [[int(result.figures["failed"] or 0), result.figures["answered"]] for result in (before, after)]
        return float(fisher_exact(counts).pvalue)
    blocks = [_blocks(result, figure) for result in (before, after)]
    # Blocks without a call of their own would count one call several times, or none as a standstill.
    is_sparse = any(result.record.sent < len(values) for result, values in zip((before, after), blocks, strict=True))
    if is_sparse or min(map(len, blocks)) < FEWEST_BLOCKS:
        return None
    return 1.0 if len({*blocks[0], *blocks[1]}) == 1 else float(mannwhitneyu(*blocks).pvalue)


def _holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction: the chance that any of several tests errs stays what a single one's was."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[index] = highest
    return corrected
