"""`gliogate info`: how an input would be read, without any server."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from gliogate.cli.options import (
    STDOUT,
    UsageError,
    add_path,
    add_volume_options,
    choice_of,
    open_lines,
    source_of,
    start_anew,
    volume_options_of,
)
from gliogate.errors import GliogateError, ImageError
from gliogate.images import load_picture, read_pixels
from gliogate.runs import printable
from gliogate.scans import find_scans
from gliogate.volumes import read_volume
from gliogate.volumes.dicom import Choice
from gliogate.volumes.reading import VolumeSource


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "info",
        help="say how an input would be read",
        description="Say how `gliogate analyze` would read its inputs: as pictures or volumes, of which sequences and "
        "series, in which plane and spacing, and what should be known of them. No server is asked.",
        epilog="The exit code is 0 if all can be read, 1 if one cannot, 2 if the arguments cannot be used.",
    )
    parser.set_defaults(run=run)
    add_path(parser, "paths", nargs="+", metavar="PATH", help="a picture, a folder of pictures, or a volume")
    add_path(parser, "--json", kind=str, metavar="FILE", help="write one JSON object a line there; '-' for stdout")
    add_volume_options(parser)


def run(arguments: argparse.Namespace) -> bool:
    """Runs the command; returns whether all can be read."""
    choice = choice_of(arguments)
    records = []
    try:
        with open_lines(arguments.json) as lines:
            start_anew(lines)
            for path in arguments.paths:
                records.append(_describe(arguments, path, choice))
                if lines:
                    print(json.dumps(records[-1]), file=lines)
                if arguments.json != STDOUT:
                    _print(records[-1])
    except OSError as error:
        raise UsageError(error) from error
    return not any(record["error"] for record in records)


def _describe(arguments: argparse.Namespace, path: Path, choice: Choice | None) -> dict[str, Any]:
    try:
        source = source_of(arguments, path)
        if source is not None:
            return _describe_volume(path, source, choice, window=arguments.window)
        record = _describe_pictures(path)
    except OSError as error:  # It may not be looked at.
        return {"path": str(path), "kind": "unknown", "error": f"{path}: {error.strerror or error}"}
    if ignored := volume_options_of(arguments):
        record["notes"] = [*record.get("notes", ()), f"{ignored}: for volumes, which this is not"]
    return record


def _describe_volume(path: Path, source: VolumeSource, choice: Choice | None, *, window: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"path": str(path), "kind": "volume", "error": None}
    try:
        volume = read_volume(source, series=choice, window=window)
    except GliogateError as error:
        return record | {"error": str(error)}
    return record | volume.to_dict() | {"ranges": [list(each) for each in volume.ranges]}


def _describe_pictures(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = {"path": str(path), "kind": "picture", "error": None}
    try:
        if path.is_dir():
            note = "analyzed one by one; --volume takes the folder for one head"
            return record | {"kind": "pictures", "count": len(find_scans([path])), "notes": [note]}
        load_picture(path)
        pixels = read_pixels(path)
    except ImageError as error:
        return record | {"error": str(error)}
    return record | {"shape": list(pixels.shape), "dtype": str(pixels.dtype)}


def _print(record: Mapping[str, Any]) -> None:
    console = Console()
    facts = {
        "pictures": record.get("count"),
        "size": record.get("shape") and " x ".join(map(str, record["shape"])),
        "type": record.get("dtype"),
        "sequences": record.get("sequences") and ", ".join(record["sequences"]),
        "read from": record.get("series") and "; ".join(record["series"]),
        "plane": record.get("plane"),
        "spacing": record.get("spacing_mm") and f"{' x '.join(f'{mm:g}' for mm in record['spacing_mm'])} mm",
        "black to white": record.get("ranges") and ", ".join(f"{b:g} to {w:g}" for b, w in record["ranges"]),
    }
    console.print(Text(printable(record["path"]), "bold"), Text(record["kind"]), soft_wrap=True)
    for name, value in facts.items():
        if value:
            console.print(Text(f"  {name:<15} {printable(str(value))}"), soft_wrap=True)
    for note in record.get("notes", ()):
        console.print(Text(f"  {'note':<15} {printable(note)}"), soft_wrap=True)
    if record["error"]:
        console.print(
            Text("  error           ", "bold red") + Text(printable(record["error"], keep="\n")), soft_wrap=True
        )
