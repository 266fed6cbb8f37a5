"""`gliogate cohort`: a folder of studies in, their files, a table and a page out."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from errno import EROFS
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn, TextIO
from uuid import uuid4

import shtab
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from gliogate.base import check_in_flight
from gliogate.cli import formats
from gliogate.cli.options import (
    STDOUT,
    TryAgainError,
    UsageError,
    add_analysis_options,
    add_path,
    add_reading_options,
    add_server_options,
    analysis_options_of,
    choice_of,
    open_lines,
    positive,
    server_of,
    start_anew,
)
from gliogate.cohort.analysis import OF_ALL, Wanted
from gliogate.cohort.claims import STALE_S, Claims
from gliogate.cohort.results import Result, folder_of
from gliogate.cohort.run import CohortStoppedError, Progress, Run
from gliogate.cohort.studies import Found, Study, find_studies
from gliogate.cohort.summing_up import PARQUET, RESERVED, Sums, sum_up
from gliogate.cohort.table import Entry
from gliogate.cohort.workers import Address
from gliogate.connection import DEFAULT_URL, Connection
from gliogate.contract import QUEUE_SIZE
from gliogate.errors import ImageError
from gliogate.installed import install_command
from gliogate.runs import Server, printable, serving
from gliogate.volumes.formats import OF_VOLUMES
from gliogate.wire import IN_FLIGHT, MAX_TIMEOUT_S

TERMINATED: Final = 128 + signal.SIGTERM

READY_S: Final = 600.0
STUDY_S: Final = 1800.0

_TOLD: Final = 10
"""Errors, and names that were left out, that are told at the end; the table has all."""

_LINE_EVERY_S: Final = 30.0
"""How often a line tells how far it is, where stderr is no terminal."""


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "cohort",
        help="analyze a folder of studies, several at once, and go on where an earlier run ended",
        description="Analyze the studies of a folder: DICOM (folders, zips), NIfTI, .npy files of slices, folders of "
        "numbered pictures. Each gets a folder in the output; at the end there are a table, cohort.csv and "
        "cohort.parquet, and a page, cohort.html. What is done is not done again. Any number of these may share one "
        "output, on one machine or several: each takes the next study that nobody has.",
        epilog="The exit code is 0 if all is done; 1 if some studies failed: the table says why, and the next run "
        "tries them again; 2 if the arguments or the folders cannot be used; 75 if the server or the output was not "
        "there: another run may go on; 130 at Ctrl-C, 143 at SIGTERM: the next run goes on.",
    )
    parser.set_defaults(run=run)
    add_path(parser, "folder", complete=shtab.DIRECTORY, metavar="DIR", help="the folder of studies")
    add_path(parser, "--output", complete=shtab.DIRECTORY, required=True, metavar="DIR", help="write everything there")
    parser.add_argument(
        "--studies",
        default="*",
        metavar="GLOB",
        help="which files and folders of it are studies: '*/*' where each patient has a folder of them ('%(default)s')",
    )
    parser.add_argument(
        "--workers",
        type=positive(int, at_most=QUEUE_SIZE),
        metavar="N",
        help="studies under way at a time, each in a process (default: the processors, 2 to 8)",
    )
    parser.add_argument(
        "--format",
        type=formats.parse,
        metavar="LIST",
        help=f"which files of each study, with commas between: {', '.join(OF_VOLUMES)} "
        "(default: dicom-seg or nifti, and csv)",
    )
    add_path(
        parser,
        "--json",
        kind=str,
        metavar="FILE",
        help="write one JSON object a line for each study there; '-' for stdout, instead of the summary",
    )
    add_analysis_options(parser)
    parser.add_argument(
        "--in-flight",
        type=positive(int),
        metavar="N",
        help=f"requests that a worker has under way at a time; all workers together, at most {QUEUE_SIZE} for each "
        f"server (default: {IN_FLIGHT}, less where the workers are many)",
    )
    parser.add_argument(
        "--study-s",
        type=positive(float, at_most=MAX_TIMEOUT_S),
        default=STUDY_S,
        metavar="S",
        help="seconds that a study may take (%(default)g)",
    )
    parser.add_argument(
        "--ready-s",
        type=positive(float, at_most=MAX_TIMEOUT_S),
        default=READY_S,
        metavar="S",
        help="seconds that a server which is not there is waited for (%(default)g)",
    )
    parser.add_argument(
        "--run-name",
        dest="name",
        metavar="NAME",
        help="what all tasks of one run have in common, the number of a job, say: what failed in it is not tried again "
        "before the next (default: a new one)",
    )
    parser.add_argument(
        "--stale-s",
        type=positive(float, at_most=MAX_TIMEOUT_S),
        default=STALE_S,
        metavar="S",
        help="seconds of silence after which a task on another machine is over, and its studies others' (%(default)g)",
    )
    parser.add_argument(
        "--no-rename",
        dest="rename",
        action="store_false",
        help="for a store that cannot rename: files get their names before they are whole",
    )
    add_reading_options(parser.add_argument_group("volumes"))
    add_server_options(parser)


def run(arguments: argparse.Namespace) -> bool:
    """Runs the command; returns whether all went well.

    Raises:
        UsageError: the arguments or the folders cannot be used.
        TryAgainError: the server or the output was not there.
        GliogateError: there is no server.
    """
    found = _find(arguments)
    server = server_of(arguments)
    wanted, workers = _wanted(arguments, server)
    names = [study.name for study in found.studies]
    for line in _notes(found):
        print(f"gliogate: note: {line}", file=sys.stderr)
    with ExitStack() as stack:
        try:
            arguments.output.mkdir(parents=True, exist_ok=True)
            claims = stack.enter_context(Claims(arguments.output, stale_s=arguments.stale_s))
            lines = stack.enter_context(open_lines(arguments.json))
        except OSError as error:
            raise (TryAgainError if error.errno in OF_ALL and error.errno != EROFS else UsageError)(error) from error
        start_anew(lines)
        try:
            # What Ctrl-C leaves is summed up, too; SIGTERM leaves no time for it.
            try:
                failed = _work(arguments, found.studies, server, wanted, workers, claims, lines)
            finally:
                if not isinstance(sys.exc_info()[1], SystemExit):
                    sums = sum_up(names, arguments.output, rename=arguments.rename)
                    _tell(sums, to_stdout=arguments.json != STDOUT)
        except BrokenPipeError:
            raise  # Who read our lines has left.
        except (CohortStoppedError, OSError) as error:
            raise TryAgainError(f"{error}: what is done is kept, another run goes on") from error
    return not failed and not sums.errors


def _work(
    arguments: argparse.Namespace,
    studies: Sequence[Study],
    server: Server,
    wanted: Wanted,
    workers: int,
    claims: Claims,
    lines: TextIO | None,
) -> int:
    """Does this task's share; returns how many studies failed of it."""
    with _terminable(), ExitStack() as stack:
        show = stack.enter_context(_progress())

        def address() -> Address:
            return Address(stack.enter_context(serving(server, restart=True)), server.connection)

        def keep(result: Result) -> None:
            if lines:
                record = {**Entry.of(result.study, result).row, "study": result.study, "files": result.files}
                print(json.dumps(record), file=lines, flush=True)

        return Run(
            studies=studies,
            wanted=wanted,
            address=address,
            claims=claims,
            workers=workers,
            study_s=arguments.study_s,
            on_result=keep,
            on_progress=show,
        ).run()


@contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM end the run as Ctrl-C does: workers are ended, studies given back."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(TERMINATED)

    # The first process of a container ignores SIGTERM unless it says otherwise.
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress() -> Iterator[Any]:
    """Tells on stderr how far a run is: a bar on a terminal, else a line now and then."""
    console = Console(stderr=True)
    if not console.is_terminal:
        told = time.monotonic()

        def tell(progress: Progress) -> None:
            nonlocal told
            if time.monotonic() - told >= _LINE_EVERY_S:
                told = time.monotonic()
                print(
                    f"{progress.settled} of {progress.total} studies, {_facts(progress)}", file=sys.stderr, flush=True
                )

        yield tell
        return
    columns = (TextColumn("Analyzing"), BarColumn(), TextColumn("{task.description}", markup=False))
    bar = Bar(*columns, console=console, transient=True)
    task = bar.add_task("", total=None)

    def draw(progress: Progress) -> None:
        bar.start()  # Not before: until then, a server may be said to start.
        description = f"{progress.settled}/{progress.total} studies, {_facts(progress)}"
        bar.update(task, completed=progress.settled, total=progress.total, description=description)

    try:
        yield draw
    finally:
        bar.stop()


def _facts(progress: Progress) -> str:
    rate = progress.slices / progress.elapsed_s if progress.elapsed_s > 1 else 0.0
    facts = [f"{rate:.1f} slices/s" if rate else "begun"]
    if progress.failed:
        facts.append(f"{progress.failed} failed")
    if progress.left_s is not None:
        facts.append(f"about {_duration(progress.left_s)} left")
    return ", ".join(facts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _find(arguments: argparse.Namespace) -> Found:
    folder, output = arguments.folder, arguments.output
    try:
        found = find_studies(folder, arguments.studies)
        top, target = folder.resolve(), output.resolve()
    except (ValueError, ImageError) as error:
        raise UsageError(error) from error
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{folder}: {getattr(error, 'strerror', None) or error}") from error
    if target.is_relative_to(top):
        raise UsageError(f"{output}: is in {folder}, and would be taken for studies")
    if not found.studies:
        raise UsageError(f"{folder}: no study is named {arguments.studies}")
    for study in found.studies:
        first = Path(study.name).parts[0]
        if study.name in RESERVED or first in RESERVED:
            raise UsageError(f"{study.path}: no study may be called {first}, as the cohort's own files are")
        if top.is_relative_to(target) and top.is_relative_to(folder_of(target, study.name)):
            raise UsageError(f"{output}: the results of {study.name} would lie among the studies")
    return found


def _wanted(arguments: argparse.Namespace, server: Server) -> tuple[Wanted, int]:
    """What is done with each study, and by how many workers."""
    formats.check(arguments.format, pictures=False, volumes=True)
    connection = Connection.to(server.url or DEFAULT_URL)
    most = connection.most_in_flight
    workers = arguments.workers or min(max(len(os.sched_getaffinity(0)), 2), 8)
    in_flight = arguments.in_flight or max(1, min(IN_FLIGHT, most // workers))
    try:
        check_in_flight(workers * in_flight, connection)
    except ValueError as error:
        raise UsageError(f"{workers} workers with {in_flight} each: {error}") from error
    wanted = Wanted(
        output=arguments.output.absolute(),
        run=arguments.name or uuid4().hex,
        options=analysis_options_of(arguments),
        in_flight=in_flight,
        min_component_ml=arguments.min_component_ml,
        formats=arguments.format,
        series=choice_of(arguments),
        window=arguments.window,
        ready_s=arguments.ready_s,
        rename=arguments.rename,
    )
    return wanted, workers


def _notes(found: Found) -> Iterator[str]:
    """What should be known before the work begins."""
    if found.left_out:
        named = ", ".join(map(printable, found.left_out[:_TOLD]))
        more = f" and {len(found.left_out) - _TOLD} more" if len(found.left_out) > _TOLD else ""
        yield f"no studies, and left out: {named}{more}"
    if find_spec("pyarrow") is None:
        yield f"no pyarrow, so no {PARQUET}: {install_command('cohort')}; run again later, what is done stays"


def _tell(sums: Sums, *, to_stdout: bool) -> None:
    out = sys.stdout if to_stdout else sys.stderr
    for study, error in list(sums.errors.items())[:_TOLD]:
        print(f"failed: {printable(study)}: {printable(error)}", file=out)
    if len(sums.errors) > _TOLD:
        print(f"… and {len(sums.errors) - _TOLD} more", file=out)
    print(sums, file=out)
    print(f"See {', '.join(printable(str(path)) for path in sums.files)}", file=out)
