"""The folder of one training run, and the split that it stands on."""

import json
from dataclasses import dataclass
from pathlib import Path

from training.data import DataError, Dataset, split_patients
from training.files import replacing


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: holds `split.json`, and for each stage `<stage>.keras` and `<stage>.csv`.
        training: patients that the networks learn from.
        validation: patients that they never see; thresholds and figures come from these.
    """

    folder: Path
    training: tuple[str, ...]
    validation: tuple[str, ...]

    @classmethod
    def open_or_create(cls, folder: Path, dataset: Dataset, *, seed: int) -> "Run":
        """Opens a run, or begins one with a new split."""
        if not (folder / "split.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            training, validation = split_patients(dataset, seed=seed)
            with replacing(folder / "split.json") as partial:
                partial.write_text(json.dumps({"training": training, "validation": validation}, indent=2) + "\n")
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Opens a run.

        Raises:
            DataError: there is no run in this folder.
        """
        path = folder / "split.json"
        if not path.exists():
            raise DataError(f"{folder}: no run here (no split.json); `python -m training train` makes one")
        split = json.loads(path.read_text())
        return cls(folder, tuple(split["training"]), tuple(split["validation"]))

    def checkpoint(self, stage: str) -> Path:
        """The trained network of a stage.

        Raises:
            DataError: this stage was not trained yet.
        """
        path = self.folder / f"{stage}.keras"
        if not path.exists():
            raise DataError(f"{path}: not trained yet; `python -m training train` does it")
        return path
