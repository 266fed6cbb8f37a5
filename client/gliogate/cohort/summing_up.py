"""What a cohort comes to: its table and its page, written by every task that ends, the last one's being whole."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gliogate.cohort import page, table
from gliogate.cohort.results import Result, folder_of, write_whole
from gliogate.cohort.table import NOT_DONE, Entry, in_order
from gliogate.errors import MissingExtraError

CSV: Final = "cohort.csv"
PARQUET: Final = "cohort.parquet"
PAGE: Final = "cohort.html"

RESERVED: Final = (CSV, PARQUET, PAGE)
"""What no study may be called, since its results would lie there."""


@dataclass(frozen=True)
class Sums:
    """How many studies became what.

    Attributes:
        total: all.
        by_verdict: those that were analyzed, what is worst first.
        to_look_at: those that somebody should look at.
        not_done: those that nobody has come to the end of.
        errors: of those that failed, by study.
        files: that were written.
    """

    total: int
    by_verdict: dict[str, int]
    to_look_at: int
    not_done: int
    errors: dict[str, str]
    files: tuple[Path, ...] = ()

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> "Sums":
        """Counts."""
        verdicts = [entry.row["verdict"] for entry in entries if entry.row["error"] is None]
        errors = {entry.row["study"]: entry.row["error"] for entry in entries if entry.row["error"]}
        failed = {study: error for study, error in errors.items() if error != NOT_DONE}
        return cls(
            total=len(entries),
            by_verdict={verdict: verdicts.count(verdict) for verdict in in_order(verdicts)},
            to_look_at=sum(entry.row["needs_look"] is True for entry in entries),
            not_done=len(errors) - len(failed),
            errors=failed,
        )

    def __str__(self) -> str:
        """In one line."""
        facts = [f"{self.total} studies"]
        facts += [
            f"{count} {'with tumor' if verdict == 'tumor' else verdict}" for verdict, count in self.by_verdict.items()
        ]
        facts += [f"{self.to_look_at} to look at"] * bool(self.to_look_at)
        facts += [f"{len(self.errors)} failed"] * bool(self.errors) + [f"{self.not_done} not done"] * bool(
            self.not_done
        )
        return ", ".join(facts)


def sum_up(studies: Sequence[str], output: Path, *, rename: bool) -> Sums:
    """Writes the table and the page of what is there.

    Tasks that end at the same time may have looked at different moments. So who has written looks again, and writes
    again if there was more to see: what is written last is of all that there was.

    Args:
        studies: names of all.
        output: the folder of results.
        rename: see `write_whole`.

    Raises:
        OSError: a file cannot be written.
    """
    names = sorted(studies)
    entries = [_read(name, output) for name in names]
    while True:
        sums = _write(entries, output, rename=rename)
        # What is done is not looked at again: there may be a hundred thousand, and they stay.
        again = [
            _read(name, output) if entry.row["error"] == NOT_DONE else entry
            for name, entry in zip(names, entries, strict=True)
        ]
        if again == entries:
            return sums
        entries = again


def _read(name: str, output: Path) -> Entry:
    return Entry.of(name, Result.read(folder_of(output, name)))


def _write(entries: Sequence[Entry], output: Path, *, rename: bool) -> Sums:
    sums = Sums.of(entries)
    rows = [entry.row for entry in entries]
    contents = {CSV: table.to_csv(rows)}
    # Without its library, who has been told of that has the other.
    with suppress(MissingExtraError):
        contents[PARQUET] = table.to_parquet(rows)
    contents[PAGE] = page.render(entries, summary=str(sums))
    for name, content in contents.items():
        write_whole(output / name, content, rename=rename)
    return replace(sums, files=tuple(output / name for name in contents))
