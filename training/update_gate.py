"""`update-gate`: the gate of `gate/` and the networks that are served become the next version."""

import logging
import shutil
from pathlib import Path

import numpy as np

from gliogate.contract import DETECTOR, ENSEMBLE, SEGMENTER
from training.answers import Answers
from training.data import phantoms
from training.errors import ParityError, RunError
from training.metadata import hashes, newest_metadata, tensors
from training.served import ask
from training.versions import GATE, alone, gate_of, next_version

logger = logging.getLogger(__name__)

PHANTOMS = 24
SEED = 7_000


def update_gate(repository: Path, *, released: Path | None = None, force: bool = False) -> None:
    """Writes the next version of all three models, and the model card; see `next_version`.

    Networks, operating point and all that was measured are the served version's. Both versions are served by a real
    Triton and asked about the same phantoms.

    Args:
        repository: a Triton model repository.
        released: the same with the configurations that the served version was released with, for a gate that needs
            others: there the served version is asked. None takes `repository` itself.
        force: whether to write a version that answers otherwise.

    Raises:
        RunError: there is no version to update, its files are not those that were released, or its gate is this one.
        ParityError: the new version answers otherwise.
    """
    before, described = newest_metadata(repository)
    released = released or repository
    for folder in (repository, released):
        _check_files(folder, before, described["sha256"])
    if gate_of(repository / ENSEMBLE.name / str(before)) == gate_of(GATE):
        raise RunError(f"version {before} has the gate of {GATE} already; there is nothing to update")
    with next_version(repository) as version:
        for model in (DETECTOR, SEGMENTER):
            shutil.copytree(repository / model.name / str(before), version.folder(model), dirs_exist_ok=True)
        shutil.copy(repository / ENSEMBLE.name / str(before) / "operating_point.json", version.folder(ENSEMBLE))
        asked = phantoms(PHANTOMS, prevalence=0.5, seed=SEED)
        # One at a time: in 8 bits an answer depends a little on the batch that the slice is in.
        with alone(released, before) as served:
            [old], [new] = (ask(folder, asked, in_flight=1) for folder in (served, version.repository))
        if differences := _differences(old, new):
            told = f"with this gate {PHANTOMS} phantoms are answered otherwise than by version {before}: {differences}"
            if not force:
                raise ParityError(f"{told}; --force writes it all the same, if that is meant")
            logger.warning("%s; written all the same", told)
        origin = described.get("networks_of", before)
        version.describe(described | {"networks_of": origin, "tensors": tensors()})


def _check_files(repository: Path, version: int, released: dict[str, str]) -> None:
    found = hashes(repository, version)
    if changed := sorted(path for path in found | released if found.get(path) != released.get(path)):
        raise RunError(
            f"{repository / changed[0]}: not the file that was released as version {version} (its hash is in "
            "metadata.json); put that one back first"
        )


def _differences(old: Answers, new: Answers) -> str:
    """What differs, in words; empty where nothing does."""
    probability = np.abs(old.probability - new.probability)
    opened = old.opened != new.opened
    pixels = np.count_nonzero(old.masks != new.masks, axis=(1, 2))
    told = {
        f"the tumor probability of {np.count_nonzero(probability)}, by at most {probability.max():.2g}": probability,
        f"whether the gate opened of {np.count_nonzero(opened)}": opened,
        f"the mask of {np.count_nonzero(pixels)}, by at most {pixels.max()} pixels": pixels,
    }
    return "; ".join(text for text, found in told.items() if found.any())
