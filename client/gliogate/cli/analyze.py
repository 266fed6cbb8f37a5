"""`gliogate analyze`: pictures and volumes in, a table, JSON lines and files out."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TextIO, TypeVar

import shtab

from gliogate.base import check_in_flight
from gliogate.cli import formats, heads
from gliogate.cli.options import (
    STDOUT,
    UsageError,
    add_analysis_options,
    add_in_flight,
    add_path,
    add_server_options,
    add_volume_options,
    analysis_options_of,
    check_exist,
    choice_of,
    open_lines,
    server_of,
    source_of,
    start_anew,
    volume_options_of,
)
from gliogate.client import Client
from gliogate.connection import DEFAULT_URL, Connection
from gliogate.errors import ImageError
from gliogate.results import Analysis
from gliogate.runs import Row, analyze_scans, connect, print_table, summary
from gliogate.scans import Scan, find_scans
from gliogate.volumes.formats import OF_VOLUMES, Written
from gliogate.volumes.reading import is_volume

R = TypeVar("R")


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "analyze",
        help="analyze pictures and volumes: files, folders, DICOM, NIfTI",
        description="Analyze pictures, each by itself, and volumes: DICOM (a file, a folder, a zip), NIfTI, .npy files "
        "of slices and, with --volume, folders of numbered pictures.",
        epilog="The exit code is 0 if all went well, 1 if a scan, a volume or the server failed, 2 if the arguments "
        "cannot be used (a path where nothing is, a folder without scans), 130 at Ctrl-C, after the table of what was "
        "done.",
    )
    parser.set_defaults(run=run)
    add_path(parser, "paths", nargs="+", metavar="PATH", help="a picture, a folder of pictures, or a volume")
    add_path(parser, "--output", complete=shtab.DIRECTORY, metavar="DIR", help="write files there")
    parser.add_argument(
        "--format",
        type=formats.parse,
        metavar="LIST",
        help=f"which files, with commas between; of pictures {', '.join(formats.OF_PICTURES)}; of volumes "
        f"{', '.join(OF_VOLUMES)} (default: mask and overlays; dicom-seg or nifti, montage, csv and json)",
    )
    add_path(
        parser,
        "--json",
        kind=str,
        metavar="FILE",
        help="write one JSON object a line there; '-' for stdout, instead of the table",
    )
    add_analysis_options(parser)
    add_in_flight(parser)
    add_volume_options(parser)
    add_server_options(parser)


def run(arguments: argparse.Namespace) -> bool:
    """Runs the command; returns whether all went well.

    Raises:
        UsageError: the arguments cannot be used.
        GliogateError: there is no server.
        OSError: a file cannot be written.
    """
    check_exist([*arguments.paths, arguments.pre, arguments.post])
    scans, volumes = _find(arguments)
    server = server_of(arguments)
    try:
        check_in_flight(arguments.in_flight, Connection.to(server.url or DEFAULT_URL))
    except ValueError as error:
        raise UsageError(f"--in-flight: {error}") from error
    formats.check(arguments.format, pictures=bool(scans), volumes=bool(volumes))
    if arguments.format and not arguments.output:
        raise UsageError("--format is of files: say with --output where they go")
    of_scans = _Done(len(scans), print_table, summary)
    of_volumes = _Done(len(volumes), heads.print_table, heads.summary)
    try:
        with ExitStack() as stack:
            try:
                if arguments.output:
                    arguments.output.mkdir(parents=True, exist_ok=True)
                lines = stack.enter_context(open_lines(arguments.json))
            except OSError as error:
                raise UsageError(error) from error
            client = stack.enter_context(connect(server))
            start_anew(lines)
            _analyze_scans(client, scans, arguments, lines, of_scans.rows)
            _analyze_volumes(client, volumes, arguments, lines, of_volumes.rows)
    except KeyboardInterrupt:
        _tell(of_scans, of_volumes, to_stdout=arguments.json != STDOUT)
        raise
    _tell(of_scans, of_volumes, to_stdout=arguments.json != STDOUT)
    return not any(row.error for row in of_scans.rows) and not any(row.error for row in of_volumes.rows)


@dataclass(frozen=True)
class _Done(Generic[R]):
    """What was done of the inputs of one kind.

    Attributes:
        total: how many there are.
        print_table: prints rows.
        summary: sums rows up in one line, with how many are left.
        rows: what became of those that were done.
    """

    total: int
    print_table: Callable[[Sequence[R]], None]
    summary: Callable[[Sequence[R], int], str]
    rows: list[R] = field(default_factory=list)


def _tell(*kinds: _Done[Any], to_stdout: bool) -> None:
    """Prints what was done; on stdout only where no JSON lines go there."""
    for kind in kinds:
        if kind.rows and to_stdout:
            kind.print_table(kind.rows)
        if kind.total:
            summed_up = kind.summary(kind.rows, kind.total - len(kind.rows))
            print(summed_up, file=sys.stdout if to_stdout else sys.stderr)


def _find(arguments: argparse.Namespace) -> tuple[list[Scan], list[heads.Head]]:
    """Sorts the paths into pictures and volumes."""
    if (arguments.pre or arguments.post) and len(arguments.paths) > 1:
        raise UsageError("--pre and --post go with one PATH, which is FLAIR of the same head")
    sources = {path: source_of(arguments, path) for path in arguments.paths}
    pictures = [path for path, source in sources.items() if source is None]
    of_volumes = {path: source for path, source in sources.items() if source is not None}
    choice = choice_of(arguments)
    if not of_volumes and (ignored := volume_options_of(arguments)):
        raise UsageError(f"{ignored}: for volumes, and the paths hold none")
    _check_output(arguments, of_volumes)
    names = heads.name_heads(list(of_volumes))
    volumes = [
        heads.Head(path, name, source, choice, arguments.window)
        for (path, source), name in zip(of_volumes.items(), names, strict=True)
    ]
    try:
        return find_scans(pictures) if pictures else [], volumes
    except (ImageError, OSError) as error:
        raise UsageError(error) from error


def _check_output(arguments: argparse.Namespace, volumes: Iterable[Path]) -> None:
    """Refuses to write among the pictures of a head, where a second run would take the montage for a slice."""
    if arguments.output is None:
        return
    output = arguments.output.resolve()
    for path in volumes:
        if path.is_dir() and not is_volume(path) and output.is_relative_to(path.resolve()):
            raise UsageError(f"--output {arguments.output} lies in {path}, all of whose pictures are one head")


def _analyze_scans(
    client: Client, scans: list[Scan], arguments: argparse.Namespace, lines: TextIO | None, rows: list[Row]
) -> None:
    """Analyzes scans, and tells of each in `rows`."""
    if not scans:
        return
    # Closed also at Ctrl-C: its progress bar would go on beneath the table.
    with closing(
        analyze_scans(client, scans, in_flight=arguments.in_flight, **analysis_options_of(arguments))
    ) as outcomes:
        for outcome in outcomes:
            row, written = Row.of(outcome), Written()
            if arguments.output and isinstance(outcome.result, Analysis):
                written = formats.write_picture(outcome.result, outcome.scan.name, arguments.output, arguments.format)
                row = replace(row, error=written.error)
            rows.append(row)
            _write_line(_record(row, written.files), lines)


def _analyze_volumes(
    client: Client,
    volumes: list[heads.Head],
    arguments: argparse.Namespace,
    lines: TextIO | None,
    rows: list[heads.HeadRow],
) -> None:
    """Analyzes volumes, and tells of each in `rows`."""
    wanted = heads.Wanted(
        in_flight=arguments.in_flight,
        min_component_ml=arguments.min_component_ml,
        output=arguments.output,
        formats=arguments.format,
    )
    for row in heads.analyze_heads(client, volumes, wanted, **analysis_options_of(arguments)):
        rows.append(row)
        _write_line(row.record(), lines)


def _record(row: Row, files: Mapping[str, Path]) -> dict[str, Any]:
    mask = files.get("mask")
    return {
        "path": str(row.scan.path),
        "verdict": row.verdict,
        "tumor_probability": row.tumor_probability,
        "tumor": row.tumor,
        "segmented": row.segmented,
        "certainty": row.certainty,
        "needs_look": row.needs_look,
        "area_px": row.area_px,
        "bounding_box": row.bounding_box and row.bounding_box._asdict(),
        "latency_s": row.latency_s,
        "mask": mask and str(mask),
        "error": row.error,
    }


def _write_line(record: Mapping[str, Any], lines: TextIO | None) -> None:
    """Writes a record as one line, and out of the buffer, so that an interrupted run keeps what was done."""
    if lines:
        print(json.dumps(record), file=lines, flush=True)
