"""A new version in a model repository: built and tried in a copy, moved in when all is well, never changed after."""

import logging
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gliogate.contract import DETECTOR, ENSEMBLE, SEGMENTER, VOLUME, Model
from training import metadata
from training.errors import RunError
from training.files import naming, replacing, write_json

logger = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[1]
GATE = CHECKOUT / "gate"
"""The gate's source: each version takes a copy along."""
CONFIGURATIONS = CHECKOUT / "model_repository"
"""Whose configurations a new repository gets."""

GATES = (VOLUME, ENSEMBLE)
"""The models that are the gate's source with an operating point of their own."""

MOVED_IN = (DETECTOR, SEGMENTER, *GATES)
"""The networks first: what has no gate is no version, to us and to a server that watches the repository."""


@dataclass(frozen=True)
class NextVersion:
    """A version that is being built.

    Attributes:
        repository: where: a model repository with the configurations of the one that the version is for, with nothing
            else in it, so that it is what a server of this repository serves.
        number: of the version.
    """

    repository: Path
    number: int

    def folder(self, model: Model) -> Path:
        """Where the files of one model go."""
        return self.repository / model.name / str(self.number)

    def describe(self, content: dict[str, Any], patients: dict[str, Any]) -> None:
        """Writes `metadata.json`, and the model card that is made of it; the version's other files are all there.

        Args:
            content: what is known of it; number, time and hashes are added, or take the place of others.
            patients: the counts of each patient, which go into a file of their own.
        """
        write_json(self.folder(ENSEMBLE) / metadata.PATIENTS, patients)
        head = {"version": self.number, "created": datetime.now(UTC).isoformat(timespec="seconds")}
        last = {"sha256": metadata.hashes(self.repository, self.number)}
        described = head | {key: value for key, value in content.items() if key not in head | last} | last
        write_json(self.folder(ENSEMBLE) / metadata.FILE, described)
        with replacing(self.repository / metadata.CARD) as partial:
            partial.write_text(metadata.card(described))


@contextmanager
def next_version(repository: Path) -> Iterator[NextVersion]:
    """The version after those that a model repository has, with the gate of `gate/` in it, to be filled.

    When the block ends without error, the version is moved in, and the way back is logged. Otherwise the repository is
    as it was. A process that dies while folders are moved leaves networks without a gate, which nobody asks; the next
    one to make a version takes their place.

    Args:
        repository: a model repository. One that is not there yet is made, with the configurations of this checkout.

    Raises:
        RunError: the folder is something else, or somebody else made the same version meanwhile.
        TrainingError: it cannot be written to.
    """
    is_new = not (repository / ENSEMBLE.name).is_dir()
    if is_new and repository.exists() and any(repository.iterdir()):
        raise RunError(
            f"{repository}: no version of {ENSEMBLE.name} here, and other things are; give a model repository, or a "
            "folder to make"
        )
    before = max(metadata.versions_of(repository), default=0)
    target = repository.resolve()
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".version-") as name:
        version = NextVersion(Path(name) / target.name, before + 1)
        _copy(CONFIGURATIONS if is_new else target, version.repository)
        for model in MOVED_IN:
            version.folder(model).mkdir(parents=True)
        for model in GATES:
            for file, content in gate_of(GATE).items():
                (version.folder(model) / file).write_bytes(content)
        yield version
        if is_new:
            version.repository.rename(target)
        else:
            _move_in(version, target)
    logger.info("version %d is in %s", version.number, repository)
    if before:
        folders = [str(repository / model.name / str(version.number)) for model in reversed(MOVED_IN)]
        logger.info("back to version %d: %s", before, shlex.join(["rm", "-r", *folders]))


def gate_of(folder: Path) -> dict[str, bytes]:
    """The gate's code in a folder: content by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))}


@contextmanager
def alone(repository: Path, number: int) -> Iterator[Path]:
    """A copy of a model repository that has this version only; a server would load what is there of unfinished ones."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "model_repository"
        _copy(repository, copy, version=number)
        yield copy


def _copy(repository: Path, copy: Path, *, version: int | None = None) -> None:
    """Copies a model repository with this version, or none."""

    def others(_: str, names: list[str]) -> set[str]:
        return {name for name in names if name.isdecimal() and name != str(version)}

    shutil.copytree(repository, copy, ignore=others)


def _move_in(version: NextVersion, repository: Path) -> None:
    if version.number in metadata.versions_of(repository):
        raise RunError(f"{repository}: version {version.number} was made meanwhile, and stays; give the command again")
    for model in MOVED_IN:
        target = repository / model.name / str(version.number)
        # Of a process that died.
        shutil.rmtree(target, ignore_errors=True)
        version.folder(model).rename(target)
    with replacing(repository / metadata.CARD) as partial:
        shutil.copyfile(version.repository / metadata.CARD, partial)
