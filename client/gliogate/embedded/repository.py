"""Model repositories: which one is served, whether a Triton can serve it, and what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gliogate import contract
from gliogate.errors import EmbeddedServerError

_NAME: Final = "model_repository"
_PACKAGE: Final = Path(__file__).resolve().parents[1]
WHEEL: Final = _PACKAGE / _NAME
"""The one that is part of gliogate where it is installed from a wheel."""
CHECKOUT: Final = _PACKAGE.parents[1] / _NAME
"""The one of the checkout that gliogate is installed from as editable."""


def find_model_repository(path: Path | None = None) -> Path:
    """Returns the model repository to serve.

    Args:
        path: the one to take; None takes `model_repository` in the current folder if it has models of gliogate's, or
            else the one of the checkout that gliogate is installed from, or else the one of gliogate's wheel.

    Raises:
        EmbeddedServerError: there is none; names the folders that were tried.
    """
    if path is not None:
        if not path.is_dir():
            raise EmbeddedServerError(
                f"no model repository: {path} is not a folder; without --model-repository gliogate's own is served"
            )
        return path
    candidates = (Path.cwd() / _NAME, CHECKOUT, WHEEL)
    for candidate in candidates:
        # One of them is enough: a repository that lacks the others is refused, not passed over.
        if any(_configuration(candidate, model.name).is_file() for model in contract.NEEDED):
            return candidate
    tried = ", ".join(str(candidate) for candidate in candidates)
    raise EmbeddedServerError(f"no models of gliogate's in {tried}; name a folder with --model-repository")


def describe(repository: Path) -> str:
    """Says where a repository comes from and what is in it, in a line."""
    origins = {Path.cwd() / _NAME: "the current folder's", CHECKOUT: "the checkout's", WHEEL: "the wheel's"}
    origin = origins.get(repository.absolute(), "named")
    versions = [int(path.name) for path in (repository / contract.ENSEMBLE.name).glob("*") if path.name.isdecimal()]
    version = f"version {max(versions)}" if versions else "without a version"
    names = ", ".join(configuration_names(repository))
    return f"{origin}, {version}, {f'for CPUs and as {names}' if names else 'for CPUs only'}: {repository}"


def configuration_names(repository: Path) -> list[str]:
    """The names that `model_config_name` may have: those of `configs/NAME.pbtxt` of any model, sorted."""
    return sorted(
        {path.stem for model in contract.MODELS for path in (repository / model.name).glob("configs/*.pbtxt")}
    )


def check_repository(folder: Path, configuration_name: str) -> None:
    """Refuses what Triton would start with, and then fail or serve something else.

    Args:
        folder: the model repository.
        configuration_name: the one to serve of each model that has it; empty for `config.pbtxt`.

    Raises:
        EmbeddedServerError: says what is missing.
    """
    if not folder.is_dir():
        raise EmbeddedServerError(f"the model repository {folder} is not a folder")
    # The gate would load without the networks, and fail with every request.
    for model in contract.NEEDED:
        if not _configuration(folder, model.name).is_file():
            raise EmbeddedServerError(f"the model repository {folder} lacks {model.name}/config.pbtxt")
    # Triton would serve config.pbtxt in the place of one that is misspelled, and say nothing.
    names = configuration_names(folder)
    if configuration_name and configuration_name not in names:
        if folder == WHEEL:
            raise EmbeddedServerError(
                f"the models of gliogate's wheel are for CPUs, in 8 bits, without configs/{configuration_name}.pbtxt; "
                f"a checkout has fp32 and gpu: name its {_NAME} with --model-repository"
            )
        raise EmbeddedServerError(
            f"no model in {folder} has configs/{configuration_name}.pbtxt; there are {', '.join(names) or 'none'}"
        )


def _configuration(folder: Path, model: str) -> Path:
    return folder / model / "config.pbtxt"
