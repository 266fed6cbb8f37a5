"""`gliogate analyze` on volumes: which there are, what became of each, and the table of them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, Unpack

from rich.text import Text

from gliogate.client import Client
from gliogate.contract import Verdict
from gliogate.errors import GliogateError, RequestError
from gliogate.runs import (
    certainty_text,
    format_or_dash,
    make_table,
    print_with_errors,
    printable,
    progress_bar,
    tell_looks,
    tell_verdicts,
    verdict_text,
)
from gliogate.scans import distinct_names
from gliogate.volumes import VolumeAnalysis, VolumeSource, read_volume
from gliogate.volumes.analysis import check_droppable
from gliogate.volumes.dicom import Choice
from gliogate.volumes.formats import Formats, Written, of_volume, stem_of, write_volume
from gliogate.wire import Options


@dataclass(frozen=True)
class Head:
    """One volume on disk.

    Attributes:
        path: as it was named.
        name: a relative path without extension that no other volume of the same run has.
        source: what is read.
        series: which DICOM series of it; None for those that it says itself.
        window: see `read_volume`.
    """

    path: Path
    name: Path
    source: VolumeSource
    series: Choice | None = None
    window: bool = False


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a run over volumes is to do.

    Attributes:
        in_flight: see `Client.analyze_volume`.
        min_component_ml: see `Client.analyze_volume`.
        output: the folder for files; None for none.
        formats: of the files.
    """

    in_flight: int
    min_component_ml: float
    output: Path | None
    formats: Formats


@dataclass(frozen=True)
class HeadRow:
    """What became of a volume, without its pixels.

    Attributes:
        head: the volume.
        files: what was written, by format.
        found: `VolumeAnalysis.to_dict`, and notes on the files; None where the analysis failed.
        verdict: in words; None where the analysis failed.
        error: what went wrong; None where nothing did. What failed may be a file alone.
    """

    head: Head
    files: Mapping[str, Path]
    found: Mapping[str, Any] | None = None
    verdict: Verdict | None = None
    error: str | None = None

    @classmethod
    def of(cls, head: Head, analysis: VolumeAnalysis, written: Written) -> Self:
        """Makes a row of an analysis and its files."""
        found = analysis.to_dict() | {"notes": [*analysis.notes, *written.notes]}
        return cls(head, written.files, found, analysis.verdict, written.error)

    def record(self) -> dict[str, Any]:
        """The row as a JSON line."""
        files = {name: str(path) for name, path in self.files.items()}
        return {"path": str(self.head.path), **(self.found or {}), "files": files, "error": self.error}


def name_heads(paths: Sequence[Path]) -> list[Path]:
    """A name for each volume, see `Head`."""
    absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100  links keep their names
    return distinct_names(absolute, [stem_of(path) for path in absolute])


def analyze_heads(
    client: Client, heads: Sequence[Head], wanted: Wanted, **options: Unpack[Options]
) -> Iterator[HeadRow]:
    """Analyzes volumes, in their order, with a progress bar on a terminal's stderr.

    A volume that fails costs only itself. When the server is lost, those that are left share its error.
    """
    lost: RequestError | None = None
    for head in heads:
        try:
            if lost:
                raise lost
            yield _analyze(client, head, wanted, options)
        except (GliogateError, OSError) as error:
            if lost is None and isinstance(error, RequestError) and not client.is_ready():
                lost = error
            yield HeadRow(head, {}, error=str(error))


def _analyze(client: Client, head: Head, wanted: Wanted, options: Options) -> HeadRow:
    with progress_bar() as progress:
        task = progress.add_task(f"Reading {printable(str(head.name))}", total=None)
        volume = read_volume(head.source, series=head.series, window=head.window)
        check_droppable(volume, wanted.min_component_ml)
        suitable = of_volume(volume, wanted.formats) if wanted.output else ()
        progress.update(task, description=f"Analyzing {printable(str(head.name))}", total=len(volume.slices))
        analysis = client.analyze_volume(
            volume,
            in_flight=wanted.in_flight,
            min_component_ml=wanted.min_component_ml,
            progress=lambda done, _: progress.update(task, completed=done),
            **options,
        )
        progress.update(task, description=f"Writing {printable(str(head.name))}", total=None)
        written = Written()
        if wanted.output:
            written = write_volume(analysis, head.name, wanted.output, suitable, are_usual=wanted.formats is None)
    return HeadRow.of(head, analysis, written)


def summary(rows: Sequence[HeadRow], left: int = 0) -> str:
    """Sums a run up in one line; `left` are the volumes that it did not come to the end of."""
    facts = [f"{len(rows)} volumes", *tell_verdicts([row.verdict for row in rows])]
    facts += tell_looks([(row.found or {}).get("needs_look") for row in rows])
    if failed := sum(row.error is not None for row in rows):
        facts.append(f"{failed} failed")
    if left:
        facts.append(f"{left} not done")
    return ", ".join(facts)


def print_table(rows: Sequence[HeadRow]) -> None:
    """Prints a run on stdout, one line a volume, and below it what failed and what should be known."""
    table = make_table("volume", "tumor\nml", "certainty", "diameter\nmm", "parts", "slices\nwith it", "slices")
    for row in rows:
        found = row.found or {"slices": [], "components": []}
        slices = found["slices"]
        table.add_row(
            Text(printable(str(row.head.name))),
            format_or_dash(max((each["tumor_probability"] for each in slices), default=None), ".3f"),
            verdict_text(row.verdict),
            _millilitres(found.get("tumor_volume_ml"), found.get("tumor_volume_interval_ml")),
            certainty_text(found.get("certainty"), needs_look=found.get("needs_look")),
            format_or_dash(found.get("largest_diameter_mm"), ".0f"),
            format_or_dash(len(found["components"]) if slices else None, "d"),
            format_or_dash(sum(each["area_px"] > 0 for each in slices) if slices else None, "d"),
            format_or_dash(len(slices) or None, "d"),
        )
    notes = dict.fromkeys(note for row in rows for note in (row.found or {}).get("notes", ()))
    print_with_errors(table, [row.error for row in rows if row.error], "volumes", notes=list(notes))


def _millilitres(volume: float | None, interval: Sequence[float] | None) -> str:
    """A volume, and between which nine of ten true ones lie."""
    told = format_or_dash(volume, ".1f")
    return told if interval is None else f"{told} ({interval[0]:.1f}-{interval[1]:.1f})"
