"""What a build adds to the code: the models that the wheel serves, the newest version's files for a CPU."""

from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

REPOSITORY: Final = "model_repository"
DOCUMENTS: Final = ("LICENSE", "MODEL_CARD.md")

NOT_FOR_CPUS: Final = ("model.onnx", "model_gpu.onnx", "patients.json")
"""For 32 bits and for GPUs, which only `configs/` ask for, left out as well: most of the repository's size. The last is
what was counted of each patient, which no server reads."""


class ModelsHook(BuildHookInterface):  # type: ignore[type-arg]  # it has no configuration of its own
    """Puts the models beside the code: into the package in a wheel, where they were in a source distribution."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the files; a checkout that is installed as editable has its own.

        Raises:
            FileNotFoundError: there is no model repository to take them from.
        """
        if version == "editable":
            return
        repository = Path(self.root, REPOSITORY)
        folder = f"gliogate/{REPOSITORY}" if self.target_name == "wheel" else REPOSITORY
        build_data["force_include"] |= {
            str(repository / path): f"{folder}/{path}" for path in models_for_cpu(repository)
        }


def models_for_cpu(repository: Path) -> list[Path]:
    """The files, relative to the repository, of which a Triton serves the newest version on a CPU.

    Raises:
        FileNotFoundError: the repository has no models.
    """
    configurations = sorted(repository.glob("*/config.pbtxt"))
    if not configurations:
        raise FileNotFoundError(f"{repository} has no models, without which the distribution would serve nothing")
    paths = [repository / name for name in DOCUMENTS]
    for configuration in configurations:
        versions = [folder for folder in configuration.parent.iterdir() if folder.name.isdecimal()]
        newest = max(versions, key=lambda folder: int(folder.name))
        files = [path for path in newest.iterdir() if path.is_file() and path.name not in NOT_FOR_CPUS]
        paths += [configuration, *sorted(files)]
    return [path.relative_to(repository) for path in paths]
