"""What is kept of a study: its files, and `result.json`, which is written last and says that it is done.

OUTPUT/STUDY/files/…
OUTPUT/STUDY/result.json     study, run, error, seconds, files, found
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self
from uuid import uuid4

RESULT: Final = "result.json"
FILES: Final = "files"


@dataclass(frozen=True)
class Result:
    """What became of a study.

    Attributes:
        study: its name.
        run: the run that did it, see `gliogate cohort --run`.
        error: what went wrong; None where nothing did.
        seconds: that it took, from reading to writing.
        files: what was written, relative to the study's folder of results.
        found: `VolumeAnalysis.to_dict`, with `notes`; None where the analysis failed.
    """

    study: str
    run: str
    error: str | None
    seconds: float
    files: tuple[str, ...] = ()
    found: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The result in a study's folder; None where there is none, or not a whole one.

        Raises:
            OSError: the folder cannot be looked into.
        """
        try:
            kept = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            study, run, error, files = kept["study"], kept.get("run", ""), kept["error"], kept["files"]
            found, seconds = kept["found"], float(kept.get("seconds", 0))
            if isinstance(found, list):  # As version 0.1 of the chart's batch Job kept it.
                found = found[0] if found else None
            if not (error is None or isinstance(error, str)) or not (found is None or isinstance(found, dict)):
                return None
            if not isinstance(study, str) or (error is None and found is None):
                return None
            return cls(study, str(run), error, seconds, tuple(map(str, files)), found)
        except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError, AttributeError):
            return None

    def is_settled(self, run: str) -> bool:
        """Whether a run has nothing more to do with the study: it was done, or the run itself failed to."""
        return self.error is None or self.run == run

    def keep(self, folder: Path, scratch: Path, *, rename: bool) -> None:
        """Brings a study's files to its folder, and the result after them.

        Args:
            folder: the study's own.
            scratch: where the files are now, by the same names; they are gone afterwards.
            rename: give files their names when they are whole; `scratch` is on the same file system then.

        Raises:
            OSError: a file cannot be written.
        """
        result = scratch / RESULT
        # Escapes for all that is not ASCII: a name may be no text at all.
        result.write_text(json.dumps(asdict(self)), encoding="ascii")
        for name in (*self.files, RESULT):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if rename:
                (scratch / name).replace(target)
            else:
                shutil.copyfile(scratch / name, target)
                (scratch / name).unlink()


def write_whole(path: Path, content: bytes, *, rename: bool) -> None:
    """Writes a file that several tasks may write at the same time: whichever is the last, it is whole.

    Raises:
        OSError: it cannot be written.
    """
    if not rename:
        path.write_bytes(content)
        return
    draft = path.with_name(f".{uuid4().hex}.partial")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def folder_of(output: Path, study: str) -> Path:
    """The folder of a study's results."""
    return Path(os.path.join(output, study))  # noqa: PTH118  a name is never absolute
