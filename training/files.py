"""Files that are either there whole or not at all, and errors that name them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gliogate import files
from training.errors import TrainingError


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Says of a file or folder that it could not be written; of a full disk the system names none.

    Raises:
        TrainingError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """`gliogate.files.replacing`, with an error that names the file.

    Raises:
        TrainingError: it cannot be written; what was there before still is.
    """
    with naming(path), files.replacing(path) as partial:
        yield partial


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object in one step; numbers that JSON has not are an error.

    Raises:
        TrainingError: the file cannot be written.
    """
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
