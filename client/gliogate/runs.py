"""One run over many scans: a server for it, the analyses with their progress, pictures and a table."""

import statistics
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final, Self, Unpack

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gliogate.client import Client
from gliogate.connection import ConnectionOptions
from gliogate.contract import Verdict
from gliogate.errors import EmbeddedServerError, GliogateError, RequestError
from gliogate.pictures import write_png
from gliogate.results import Analysis, BoundingBox
from gliogate.scans import MASK_SUFFIX, OVERLAY_SUFFIX, Scan
from gliogate.wire import IN_FLIGHT, READINESS_TIMEOUT_S, Options

FILE_WIDTH: Final = 200
"""Columns that a table may take where it goes to no terminal."""

VERDICT_STYLES: Mapping[Verdict, str] = {
    "tumor": "bold yellow",
    "suspicious": "bold magenta",
    "no tumor": "green",
    "undecided": "dim",
}

LOOK_STYLE: Final = "bold cyan"


@dataclass(frozen=True)
class Outcome:
    """What became of one scan: an analysis, or the error in its place."""

    scan: Scan
    result: Analysis | GliogateError


@dataclass(frozen=True)
class Row:
    """An outcome without its pixels: thousands of them fit into memory.

    Attributes:
        scan: the scan.
        tumor_probability: see `Analysis`; None where the scan failed, and so with all that follow.
        tumor: see `Analysis`.
        verdict: see `Analysis`.
        segmented: see `Analysis`.
        area_px: see `Analysis`.
        bounding_box: see `Analysis`; None where the mask is empty, too.
        latency_s: see `Analysis`.
        certainty: see `Analysis`.
        needs_look: see `Analysis`.
        dice: how well the mask matches a known one; None where that is not defined.
        error: what went wrong; None where nothing did.
    """

    scan: Scan
    tumor_probability: float | None = None
    tumor: bool | None = None
    verdict: Verdict | None = None
    segmented: bool | None = None
    area_px: int | None = None
    bounding_box: BoundingBox | None = None
    latency_s: float | None = None
    certainty: float | None = None
    needs_look: bool | None = None
    dice: float | None = None
    error: str | None = None

    @classmethod
    def of(cls, outcome: Outcome, *, dice: float | None = None) -> Self:
        """Makes a row of an outcome."""
        result = outcome.result
        if isinstance(result, GliogateError):
            return cls(outcome.scan, error=str(result))
        return cls(
            outcome.scan,
            tumor_probability=result.tumor_probability,
            tumor=result.tumor,
            verdict=result.verdict,
            segmented=result.segmented,
            area_px=result.area_px,
            bounding_box=result.bounding_box,
            latency_s=result.latency_s,
            certainty=result.certainty,
            needs_look=result.needs_look,
            dice=dice,
        )


def printable(text: str, *, keep: str = "") -> str:
    """A text as a terminal may show it: names of files and DICOM's texts can hold what steers it, or is no text at all.

    Args:
        text: anything.
        keep: characters that stay as they are.
    """
    return "".join(each if each.isprintable() or each in keep else ascii(each)[1:-1] for each in text)


def import_embedded() -> ModuleType:
    """Imports `gliogate.embedded`.

    Raises:
        EmbeddedServerError: the extra is not installed.
    """
    try:
        import gliogate.embedded
    except ImportError as error:
        raise EmbeddedServerError(
            f"the embedded server is not installed ({error}): pip install 'gliogate[embedded]', "
            "or name a running server with --url"
        ) from error
    return gliogate.embedded


@dataclass(frozen=True, kw_only=True)
class Server:
    """Which server a run asks, and how it is reached.

    Attributes:
        url: HOST:PORT of a running server; None for an embedded one.
        model_repository: what the embedded server serves; None for the one that it finds by itself.
        connection: what is asked of the connection.
    """

    url: str | None = None
    model_repository: Path | None = None
    connection: ConnectionOptions = field(default_factory=ConnectionOptions)


@contextmanager
def serving(server: Server, *, restart: bool = False) -> Iterator[str]:
    """The address of a running server, or of an embedded one that lives as long as the context.

    Args:
        server: which one.
        restart: start an embedded one again when it dies, see `gliogate.embedded.EmbeddedServer`.

    Raises:
        EmbeddedServerError: the embedded server is not installed, or did not start.
    """
    if server.url is not None:
        yield server.url
        return
    embedded = import_embedded()
    started = embedded.EmbeddedServer(embedded.find_model_repository(server.model_repository), restart=restart)
    with ExitStack() as stack:
        with Console(stderr=True).status("Starting Triton"):
            stack.enter_context(started)
        yield started.url


@contextmanager
def connect(server: Server) -> Iterator[Client]:
    """Opens a client of a running server, or of an embedded one that lives as long as the context.

    Raises:
        RequestError: the running server is not ready.
        EmbeddedServerError: the embedded server is not installed, or did not start.
    """
    with serving(server) as url, Client(url, **server.connection) as client:
        client.wait_until_ready(timeout_s=READINESS_TIMEOUT_S)
        yield client


def analyze_scans(
    client: Client, scans: Sequence[Scan], *, in_flight: int = IN_FLIGHT, **options: Unpack[Options]
) -> Generator[Outcome, None, None]:
    """Analyzes scans, in their order, with a progress bar on a terminal's stderr.

    A scan that fails costs only itself. When the server is lost, the scans that were not yet sent share its error.
    """
    lost: RequestError | None = None

    def pictures() -> Iterator[Path]:
        for scan in scans:
            if lost:
                return
            yield scan.path

    with progress_bar() as progress:
        task = progress.add_task("Analyzing", total=len(scans))
        results = client.analyze_many(pictures(), in_flight=in_flight, on_error="return", **options)
        for scan in scans:
            result = next(results, lost)
            if lost is None and isinstance(result, RequestError) and not client.is_ready():
                lost = result
            assert result is not None  # noqa: S101  the results end early only when the server was lost
            progress.advance(task)
            yield Outcome(scan, result)


def progress_bar() -> Progress:
    """Shows how far long work is, on a terminal's stderr and nowhere else."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def write_mask(analysis: Analysis, name: Path, folder: Path) -> Path:
    """Writes `<name>_mask.png`, 0 and 255, of the picture's size, into a folder; returns its path.

    Raises:
        OSError: the file cannot be written.
    """
    return _write(analysis.mask * np.uint8(255), f"{folder / name}{MASK_SUFFIX}.png")


def write_overlay(analysis: Analysis, name: Path, folder: Path) -> Path:
    """Writes `<name>_overlay.png`, of the picture's size, into a folder; returns its path.

    Raises:
        OSError: the file cannot be written.
    """
    return _write(analysis.overlay(), f"{folder / name}{OVERLAY_SUFFIX}.png")


def _write(picture: NDArray[np.uint8], name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, picture)
    return path


def summary(rows: Sequence[Row], left: int = 0) -> str:
    """Sums a run up in one line; `left` are the scans that it did not come to."""
    facts = [f"{len(rows)} scans", *tell_verdicts([row.verdict for row in rows])]
    facts += tell_looks([row.needs_look for row in rows])
    if failed := sum(row.error is not None for row in rows):
        facts.append(f"{failed} failed")
    if dice := [row.dice for row in rows if row.dice is not None]:
        facts.append(f"mean Dice {statistics.mean(dice):.3f}")
    if latencies := [row.latency_s for row in rows if row.latency_s is not None]:
        facts.append(f"median latency {1000 * statistics.median(latencies):.0f} ms")
    if left:
        facts.append(f"{left} not done")
    return ", ".join(facts)


def tell_verdicts(verdicts: Sequence[Verdict | None]) -> list[str]:
    """How many show tumor, and how many are suspicious, if any are."""
    suspicious = verdicts.count("suspicious")
    return [f"{verdicts.count('tumor')} with tumor", *[f"{suspicious} suspicious"] * bool(suspicious)]


def tell_looks(looks: Sequence[bool | None]) -> list[str]:
    """How many somebody should look at, if any."""
    return [f"{looks.count(True)} to look at"] * (True in looks)


def print_table(rows: Sequence[Row]) -> None:
    """Prints a run on stdout, one line a scan, and below it what failed. Dice has a column where any is defined."""
    with_dice = any(row.dice is not None for row in rows)
    table = make_table("scan", "gate\nopened", "mask\narea px", "certainty", *["Dice"] * with_dice, "latency\nms")
    for row in rows:
        table.add_row(
            Text(printable(str(row.scan.name))),
            format_or_dash(row.tumor_probability, ".3f"),
            verdict_text(row.verdict),
            {True: "yes", False: "no", None: "-"}[row.segmented],
            format_or_dash(row.area_px, ",d"),
            certainty_text(row.certainty, needs_look=row.needs_look),
            *[format_or_dash(row.dice, ".3f")] * with_dice,
            format_or_dash(row.latency_s and 1000 * row.latency_s, ".0f"),
        )
    print_with_errors(table, [row.error for row in rows if row.error], "scans")


def make_table(thing: str, *headings: str) -> Table:
    """A table of things: what each is called, its probability of tumor, its verdict, and more numbers."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(thing, overflow="fold")
    table.add_column("tumor\nprob.", justify="right")
    table.add_column("verdict")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def verdict_text(verdict: Verdict | None) -> Text:
    """A verdict in its color; None is for what failed."""
    return Text(verdict, VERDICT_STYLES[verdict]) if verdict else Text("failed", "bold red")


def certainty_text(certainty: float | None, *, needs_look: bool | None) -> Text:
    """A mask's certainty, after a mark where somebody should look at it."""
    return Text.assemble(*[("look ", LOOK_STYLE)] * bool(needs_look), format_or_dash(certainty, ".2f"))


def print_with_errors(table: Table, errors: Sequence[str], things: str, *, notes: Sequence[str] = ()) -> None:
    """Prints a table on stdout, and below it what failed, each error once, and notes."""
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    console.print(table)
    for error, count in Counter(errors).items():
        failed = "failed: " if count == 1 else f"{count} {things} failed: "
        console.print(Text(failed, "bold red") + Text(printable(error, keep="\n")), soft_wrap=True)
    for note in notes:
        console.print(Text("note: ", "bold") + Text(printable(note, keep="\n")), soft_wrap=True)


def format_or_dash(value: float | None, format_spec: str) -> str:
    """Formats a number, and an undefined one as a dash."""
    return "-" if value is None else format(value, format_spec)
