"""What is in a dataset, and what is wrong with it, before anything is trained on it: as JSON, and as a page."""

import json
import logging
from pathlib import Path
from typing import Any

from gliogate.files import replacing
from training.errors import TrainingError
from training.explore.page import render_page
from training.explore.survey import survey

__all__ = ["explore"]

logger = logging.getLogger(__name__)


def explore(data: Path, output: Path) -> dict[str, Any]:
    """Surveys a dataset, and writes `explore.json` and `explore.html`; no trouble with a file stops it.

    Args:
        data: the Kaggle download, unpacked.
        output: a folder for the two files.

    Returns:
        The content of `explore.json`, see `survey.survey`.

    Raises:
        DataError: there is no such dataset.
        TrainingError: the output cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        found = survey(data)
        page = render_page(found, data)
        with replacing(output / "explore.json") as partial:
            partial.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        with replacing(output / "explore.html") as partial:
            # A file name need not be valid Unicode.
            partial.write_bytes(page.encode("utf-8", "replace"))
    except OSError as error:
        raise TrainingError(f"{output}: cannot be written ({error.strerror or error})") from error
    logger.info(
        "%s: %d patients, %d slices, %d with tumor; %d files in trouble",
        data, found["patients"], found["slices"], found["tumor_slices"], len(found["troubles"]),
    )  # fmt: skip
    return found
