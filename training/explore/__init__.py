"""What is in a dataset, and what is wrong with it, before anything is trained on it: as JSON, and as a page."""

import logging
from pathlib import Path
from typing import Any

from reports.frame import write_page
from training.explore.page import render_page
from training.explore.survey import survey
from training.files import naming, write_json

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
    with naming(output):
        output.mkdir(parents=True, exist_ok=True)
    found = survey(data)
    write_json(output / "explore.json", found)
    page = output / "explore.html"
    with naming(page):
        write_page(page, lambda: render_page(found, data))
    logger.info(
        "%s: %d patients, %d slices, %d with tumor; %d files in trouble",
        data, found["patients"], found["slices"], found["tumor_slices"], len(found["troubles"]),
    )  # fmt: skip
    return found
