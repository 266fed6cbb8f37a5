"""Two runs held against each other, figure by figure: the difference, and whether chance explains it.

Requests of one run are no independent samples: those behind a slow one are slow too. So each stage is cut into blocks
of several seconds, each block gives one value of each figure, and the test of Mann and Whitney asks how often chance
would order the blocks of two equal servers as much apart. What is significant, after Holm's correction over all
figures, and beyond the tolerance is a regression or an improvement.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadtests.errors import ReportError
from loadtests.record import Window
from loadtests.result import StageResult
from loadtests.stage import Stage

BLOCKS: Final = 12
"""How many blocks a stage is cut into, where it is long enough."""

FEWEST_BLOCKS: Final = 5
"""With fewer blocks on each side, no difference could be significant."""

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

    def of(self, block: Window, seconds: float) -> float | None:
        """Its value in a block; None where there is none."""
        match self.key:
            case "throughput":
                return block.slices / seconds
            case "errors":
                return block.failed / block.sent if block.sent else None
            case key:
                value = block.corrected.percentile(float(key.removeprefix("p").removesuffix("_ms")))
                return None if value is None else 1000 * value


FIGURES: Final = (
    Figure("p50_ms", "p50"),
    Figure("p95_ms", "p95"),
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
            blocks to tell, or the stage is invalid in either run.
        verdict: `regression`, `improvement`, `same` or `unclear`.
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
        return self.after / self.before - 1 if self.before else None

    def to_json(self) -> dict[str, Any]:
        """As the report's JSON has it."""
        return vars(self) | {"figure": self.figure.name, "change": self.change}


def read_results(path: Path) -> list[StageResult]:
    """The stages of an earlier run.

    Raises:
        ReportError: the file cannot be read, or is no report of this suite.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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
            values = [result.figures[figure.key] for result in (old, new)]
            if values[0] is None or values[1] is None:
                continue
            # What is invalid says nothing about the server, for better or worse.
            is_told = not old.faults and not new.faults
            p_value = _p_value(_blocks(old, figure), _blocks(new, figure)) if is_told else None
            rows.append((new.stage.name, figure, float(values[0]), float(values[1]), p_value))
    corrected = _holm([row[-1] for row in rows])
    return [
        Difference(stage, figure, old_value, new_value, p, _verdict(figure, old_value, new_value, p, tolerance))
        for (stage, figure, old_value, new_value, _), p in zip(rows, corrected, strict=True)
    ]


def _verdict(figure: Figure, before: float, after: float, p_value: float | None, tolerance: float) -> str:
    allowed = ERROR_TOLERANCE if figure.is_share else tolerance * before
    if abs(after - before) <= allowed:
        return "same"
    if p_value is None:
        return "unclear"
    if p_value >= SIGNIFICANCE:
        return "same"
    return "regression" if (after > before) == figure.is_better_low else "improvement"


def _blocks(result: StageResult, figure: Figure) -> list[float]:
    """A figure's value in each block of a stage."""
    seconds = int(result.stage.counted_s if result.stage.is_open else result.elapsed_s)
    width = max(1, seconds // BLOCKS)
    values = []
    for first in range(0, seconds - width + 1, width):
        block = Window()
        for second in range(first, first + width):
            if window := result.record.windows.get(second):
                block.merge(window)
        value = figure.of(block, width)
        if value is not None:
            values.append(value)
    return values


def _p_value(before: Sequence[float], after: Sequence[float]) -> float | None:
    """How often chance orders the blocks of two equal servers as much apart; None where there are too few."""
    if min(len(before), len(after)) < FEWEST_BLOCKS:
        return None
    if len({*before, *after}) == 1:
        return 1.0
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(before, after).pvalue)


def _holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction: the chance that any of several tests errs stays what a single one's was."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[index] = highest
    return corrected
