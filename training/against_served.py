"""Whether a run is worth serving: it and the version that is served, judged on the same patients.

On both sides a patient is judged by networks that did not learn from him: by those of the run, or of its
cross-validation, and by those that the served version's own evidence is of. Whom that evidence does not have, the
served version is asked about, unless it learned from him.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import metrics
from training.data import Dataset
from training.errors import RunError, WorseError
from training.metadata import newest_metadata, patients_of, versions_of
from training.report.figures import summarize
from training.served import ask
from training.versions import alone

logger = logging.getLogger(__name__)

TOLERANCE = 0.005
"""A figure that is lower by no more is as good: 8 bits may cost as much, and training with another seed does."""

ENOUGH = 10
"""Patients from which an interval over them says something."""

NAMED = 8
"""Patients that a message names; of more it says how many, and the log has their names."""

Case = Mapping[str, Any]
"""What `summarize` counts of a patient."""


@dataclass(frozen=True)
class Figure:
    """One figure of both sides; more is better.

    Attributes:
        name: what it measures.
        served: of the version that is served.
        run: of the run.
        interval: 95%, of the difference, by drawing patients; NaN for too few of them.
    """

    name: str
    served: float
    run: float
    interval: tuple[float, float]

    @property
    def is_worse(self) -> bool:
        """Whether the run's is lower by more than `TOLERANCE`."""
        return self.run < self.served - TOLERANCE

    def __str__(self) -> str:
        told = f"{self.name} {self.run:.3f}, served {self.served:.3f}"
        if np.isnan(self.interval).any():
            return told
        return f"{told} (difference {self.interval[0]:+.3f} to {self.interval[1]:+.3f})"


def hold_against_served(summary: Mapping[str, Any], dataset: Dataset, repository: Path, *, force: bool) -> None:
    """Refuses a run that is worse than what is served.

    It is worse if its detector or its outlines are, by more than `TOLERANCE`; the intervals are for the reader, since a
    run that may well be worse needs no proof to be refused.

    Args:
        summary: of the run or of its cross-validation; see `summarize`.
        dataset: slices of the patients that the served version may have to be asked about.
        repository: whose newest version is served; where there is none, nothing is held against anything.
        force: whether to only say so.

    Raises:
        WorseError: it is worse, or there is nobody to compare it on.
        RunError: the summary has no counts of patients.
    """
    if not versions_of(repository):
        logger.info("%s: nothing is served from here yet, so there is nothing to compare with", repository)
        return
    try:
        _check(summary, dataset, repository)
    except WorseError as error:
        if not force:
            raise WorseError(f"{error}; --force writes it all the same") from None
        logger.warning("%s; written all the same", error)


def figures(run: Sequence[Case], served: Sequence[Case]) -> list[Figure]:
    """What both sides are compared by; what is not defined is left out.

    The detector is compared by its AUC over slices. The counts of networks up to version 8 have no probabilities: then
    by the area under the curve of the gate's own yes and no, which is the mean of sensitivity and specificity.

    Args:
        run: of each patient, judged by the run.
        served: of the same patients in the same order, judged by what is served.
    """
    told = all("probabilities" in case for case in (*run, *served))
    detector = ("AUC", _auc) if told else ("mean of sensitivity and specificity", _at_the_gate)
    return [
        figure
        for name, statistic in (detector, ("mean Dice of a volume through the gate", _dice))
        if not np.isnan((figure := _figure(name, statistic, run, served)).run - figure.served)
    ]


def _check(summary: Mapping[str, Any], dataset: Dataset, repository: Path) -> None:
    if "cases" not in summary:
        raise RunError("summary.json: has no counts of patients; `python -m training evaluate` writes it anew")
    judged = {case["patient"]: case for case in summary["cases"]}
    try:
        version, metadata = newest_metadata(repository)
    except RunError as error:
        raise WorseError(f"cannot be compared with what is served: {error}") from None
    served = _served(judged, dataset, repository, version, metadata)
    patients = sorted(served)
    compared = figures([judged[name] for name in patients], [served[name] for name in patients]) if patients else []
    if not compared:
        raise WorseError(
            f"cannot be compared with version {version}, which is served: it learned from all {len(judged)} patients "
            "that this one was judged on, and nobody else judged them"
        )
    logger.info("compared with version %d on %s: %s", version, ", ".join(patients), "; ".join(map(str, compared)))
    worse = [str(figure) for figure in compared if figure.is_worse]
    if worse:
        named = ", ".join(patients) if len(patients) <= NAMED else f"{len(patients)} patients (named above)"
        raise WorseError(f"worse than version {version}, which is served, on {named}: {'; '.join(worse)}")


def _served(
    judged: Mapping[str, Case], dataset: Dataset, repository: Path, version: int, metadata: dict[str, Any]
) -> dict[str, Case]:
    """What the served version, or its evidence, says of those of the judged patients that it may judge."""
    evidence = patients_of(repository, version, metadata)["slices"]
    # Of other slices, or other masks, it would be another task.
    same = ("slices", "tumor_slices")
    known = {
        case["patient"]: case
        for case in evidence
        if (own := judged.get(case["patient"])) and all(own[count] == case[count] for count in same)
    }
    learned_from = set(metadata["data"]["training_patients"])
    strangers = sorted((set(judged) & set(dataset.patients.tolist())) - set(known) - learned_from)
    if strangers:
        logger.info("asking what is served about patients that it never saw: %s", ", ".join(strangers))
        asked = dataset.of(strangers)
        with alone(repository, version) as served:
            [answers] = ask(served, asked)
        threshold = metadata["operating_point"]["detection_threshold"]
        known |= {
            case["patient"]: case for case in summarize(asked, answers, threshold=threshold, resamples=1)["cases"]
        }
    return known


def _figure(
    name: str, statistic: Callable[[Sequence[Case]], float], run: Sequence[Case], served: Sequence[Case]
) -> Figure:
    def difference(rows: NDArray[np.intp]) -> float:
        return statistic([run[row] for row in rows]) - statistic([served[row] for row in rows])

    groups = [np.array([row]) for row in range(len(run))] if len(run) >= ENOUGH else []
    return Figure(name, statistic(served), statistic(run), metrics.patient_interval(difference, groups))


def _auc(cases: Sequence[Case]) -> float:
    tumor, clear = (
        np.concatenate([np.array(case["probabilities"][side], float) for case in cases]) for side in ("tumor", "clear")
    )
    return metrics.auc(np.concatenate([tumor, clear]), np.arange(len(tumor) + len(clear)) < len(tumor))


def _at_the_gate(cases: Sequence[Case]) -> float:
    slices, tumor, missed, opened = (
        sum(case[count] for case in cases)
        for count in ("slices", "tumor_slices", "tumor_slices_missed", "clear_slices_opened")
    )
    if not tumor or tumor == slices:
        return float("nan")
    return float(2 - missed / tumor - opened / (slices - tumor)) / 2


def _dice(cases: Sequence[Case]) -> float:
    """Mean over volumes; of one that is empty on both sides, masks and outlines, there is none."""
    defined = [dice for case in cases if (dice := case["through_gate"]["dice"]) is not None]
    return float(np.mean(defined)) if defined else float("nan")
