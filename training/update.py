"""`update`: the networks that are served, as today's exporter and with the gate of `gate/`, become the next version."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import onnx

from gliogate.contract import DETECTOR, ENSEMBLE, MASK_THRESHOLD, SEGMENTER, Model
from training.answers import Answers
from training.data import Dataset, phantoms
from training.errors import ParityError, RunError
from training.graphs import cast_first
from training.metadata import hashes, newest_metadata, patients_of, roundings, tensors
from training.rounding import Rounding, judged_slices
from training.served import ask
from training.sixteen_bits import FILE as FOR_GPU
from training.sixteen_bits import write_for_gpu
from training.versions import GATES, alone, next_version

logger = logging.getLogger(__name__)

NETWORKS = (DETECTOR, SEGMENTER)
OPERATING_POINT = "operating_point.json"
PHANTOMS = 24
SEED = 7_000


def update(
    repository: Path, *, dataset: Dataset | None = None, released: Path | None = None, force: bool = False
) -> None:
    """Writes the next version of all models, and the model card; see `next_version`.

    Weights, operating point and all that was measured are the served version's. Both versions are served by a real
    Triton and asked about the same phantoms.

    Args:
        repository: a Triton model repository.
        dataset: slices to find out on what a network loses in a file that the served version does not have.
        released: the same with the configurations that the served version was released with, where the next one needs
            others: there the served version is asked. None takes `repository` itself.
        force: whether to write a version that answers otherwise.

    Raises:
        RunError: there is no version to update, its files are not those that were released, there is nothing to update,
            or slices are needed.
        ParityError: the new version answers otherwise.
    """
    before, described = newest_metadata(repository)
    released = released or repository
    for folder in (repository, released):
        _check_files(folder, before, described["sha256"])
    judged = dataset and judged_slices(dataset, described["data"]["validation_patients"])
    if missing := [model.name for model in GATES if not (repository / model.name / str(before)).is_dir()]:
        raise RunError(
            f"version {before} has no {missing[0]}, and so nothing that its answers were calibrated by; export"
        )
    with next_version(repository) as version:
        for model in NETWORKS:
            shutil.copytree(repository / model.name / str(before), version.folder(model), dirs_exist_ok=True)
        for model in GATES:
            shutil.copy(repository / model.name / str(before) / OPERATING_POINT, version.folder(model))
        threshold = json.loads((version.folder(ENSEMBLE) / OPERATING_POINT).read_text())[MASK_THRESHOLD]
        on_gpu = {model.name: _bring_up_to_date(version.folder(model), model, judged, threshold) for model in NETWORKS}
        if _contents(version.repository, version.number) == _contents(repository, before):
            raise RunError(f"version {before} is what today's code writes; there is nothing to update")
        asked = phantoms(PHANTOMS, prevalence=0.5, seed=SEED)
        # One at a time: in 8 bits an answer depends a little on the batch that the slice is in.
        with alone(released, before) as served:
            [old], [new] = (ask(folder, asked, in_flight=1) for folder in (served, version.repository))
        if differences := _differences(old, new):
            told = f"{PHANTOMS} phantoms are answered otherwise than by version {before}: {differences}"
            if not force:
                raise ParityError(f"{told}; --force writes it all the same, if that is meant")
            logger.warning("%s; written all the same", told)
        origin = described.get("networks_of", before)
        found_out = described.get("on_gpu", {}) | roundings({name: each for name, each in on_gpu.items() if each})
        version.describe(
            described | {"networks_of": origin, "tensors": tensors(), "on_gpu": found_out},
            patients_of(repository, before, described),
        )


def _bring_up_to_date(folder: Path, model: Model, judged: Dataset | None, threshold: float) -> Rounding | None:
    """Changes a network's files to what the exporter writes; what became of it in 16 bits, if that was not there."""
    for path in folder.glob("*.onnx"):
        network = onnx.load(path)
        if cast_first(network.graph):
            onnx.save(network, path)
    if (folder / FOR_GPU).exists():
        return None
    if judged is None:
        raise RunError(f"{model.name} has no {FOR_GPU}; give --data, to find out on its slices what 16 bits lose")
    return write_for_gpu(folder / "model.onnx", model, judged, threshold)


def _contents(repository: Path, version: int) -> dict[str, str]:
    """The hash of each file of a version, by where it is in it."""
    return {path.replace(f"/{version}/", "/", 1): digest for path, digest in hashes(repository, version).items()}


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
