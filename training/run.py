"""The folder of one training run: what was asked for, and what came of it."""

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.data import Split
from training.devices import precision_of
from training.environment import environment
from training.errors import RunError
from training.files import naming, write_json
from training.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: holds `recipe.json`, `split.json`, `environment.json`; for each stage `<stage>.keras`, `<stage>.csv` and
            `tensorboard/<stage>`; then `operating_point.json`, and from `evaluate` `summary.json` and `report.html`.
        recipe: as it was resolved.
        split: patients by name.
    """

    folder: Path
    recipe: Recipe
    split: Split

    @classmethod
    def create(cls, folder: Path, recipe: Recipe, split: Split, *, seed: int | None = None) -> "Run":
        """Begins a run, or takes up one that was begun with the same recipe, split and seed.

        Args:
            folder: where.
            recipe: what.
            split: on whom.
            seed: that it is trained with, kept in `environment.json`; None keeps the one that is there.

        Raises:
            RunError: the folder holds a run of another recipe, split or seed.
        """
        if (folder / "recipe.json").exists():
            run = cls.open(folder)
            # Before the split, which another seed makes another one.
            seed = _same_seed(folder / "environment.json", seed)
            _check_same(folder / "recipe.json", run.recipe.model_dump(mode="json"), recipe.model_dump(mode="json"))
            if run.split != split:
                raise RunError(f"{folder / 'split.json'}: another split than asked for; give the run another folder")
        else:
            with naming(folder):
                folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "split.json", asdict(split))
            # Last, since it is what says that there is a run.
            write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
        seeded = {} if seed is None else {"seed": seed}
        write_json(folder / "environment.json", environment() | {"precision": precision_of(recipe)} | seeded)
        return cls(folder, recipe, split)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Opens a run.

        Raises:
            RunError: there is no run in this folder.
            RecipeError: its recipe has keys that this version does not know.
            DataError: its split has a patient on both sides.
        """
        path = folder / "recipe.json"
        if not path.exists():
            raise RunError(f"{folder}: no run here (no {path.name}); `python -m training train` makes one")
        recipe = Recipe.from_json(_read(path), source=str(path))
        return cls(folder, recipe, read_split(folder / "split.json"))

    def weights(self, stage: str) -> Path:
        """The trained network of a stage.

        Raises:
            RunError: this stage was not trained to its end yet.
        """
        path = self.folder / f"{stage}.keras"
        if not path.exists():
            raise RunError(f"{path}: not trained to its end yet; `python -m training train {self.folder}` carries on")
        return path

    def is_trained(self) -> bool:
        """Whether every stage was trained to its end."""
        return all((self.folder / f"{stage}.keras").exists() for stage in self.recipe.stages)

    def seconds(self) -> float | None:
        """How long the epochs of all stages took, as their logs say; None where they do not."""
        logs = [self.folder / f"{stage}.csv" for stage in self.recipe.stages]
        rows = [row for log in logs if log.exists() for row in csv.DictReader(log.read_text().splitlines())]
        return sum(float(row["seconds"]) for row in rows) if all("seconds" in row for row in rows) else None

    @staticmethod
    def read_json(folder: Path, name: str, *, written_by: str) -> dict[str, Any]:
        """A JSON file of a run, or of a cross-validation.

        Args:
            folder: of the run.
            name: of the file.
            written_by: the command that writes it, for the error.

        Raises:
            RunError: it is not there yet, or cannot be read.
        """
        path = folder / name
        if not path.exists():
            raise RunError(f"{path}: not there yet; `python -m training {written_by} {folder}` writes it")
        return _read(path)


def read_split(path: Path) -> Split:
    """A split from a JSON file with the lists `training` and `validation` of patients.

    Raises:
        RunError: the file is not there or has another content.
        DataError: a patient is on both sides, or a side is empty.
    """
    content = _read(path)
    if sorted(content) != ["training", "validation"] or not all(isinstance(side, list) for side in content.values()):
        found = ", ".join(content) or "none"
        raise RunError(f"{path}: expected the two lists `training` and `validation`, found {found}")
    for side, patients in content.items():
        if strangers := [patient for patient in patients if not isinstance(patient, str)]:
            raise RunError(f"{path}: {side}: expected names of patients, found {json.dumps(strangers[0])}")
    return Split(**{side: tuple(patients) for side, patients in content.items()})


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise RunError(f"{path}: expected a JSON object")
    return content


def _same_seed(path: Path, asked: int | None) -> int | None:
    """The seed of a run that is taken up; runs did not always keep it, and take the one that is asked for then."""
    kept: int | None = _read(path).get("seed") if path.exists() else None
    if kept is not None and asked is not None and kept != asked:
        raise RunError(f"{path}: seed {kept} (asked for: {asked}); give this run another folder")
    return asked if kept is None else kept


def _check_same(path: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    before, now = _flat(found), _flat(asked)
    differing = sorted(key for key in before | now if before.get(key) != now.get(key))
    if differing:
        told = ", ".join(f"{key} {before.get(key)} (asked for: {now.get(key)})" for key in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise RunError(f"{path}: a run of another recipe: {told}{more}; give this one another folder")


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(content, list):
        content = {str(index): value for index, value in enumerate(content)}
    if not isinstance(content, dict):
        return {prefix: content}
    return {
        key: value
        for name, part in content.items()
        for key, value in _flat(part, f"{prefix}.{name}" if prefix else name).items()
    }
