"""One study in a worker: read, analyzed, its files written."""

import errno
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gliogate.client import Client
from gliogate.cohort.results import FILES, Result, folder_of
from gliogate.cohort.studies import Study
from gliogate.errors import AuthenticationError, GliogateError, RequestError
from gliogate.results import Analysis
from gliogate.volumes import Volume, VolumeAnalysis, read_volume
from gliogate.volumes.analysis import check_droppable
from gliogate.volumes.dicom import Choice
from gliogate.volumes.formats import Formats, of_volume, write_volume
from gliogate.wire import Options

USUAL: Final = ("csv",)
"""What is written beside the mask where no formats were named: a montage takes 2 MB a study, JSON is in the result."""

_ROUNDS: Final = 5
"""How often in a row a server that is ready may answer none of a study's slices."""

_PAUSE_S: Final = 1.0

OF_ALL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN)
"""What the system says when a whole volume is full or away, not a folder of it."""


class ServerLostError(Exception):
    """The server was not there for as long as it is waited for, or does not let us in."""


class OutputLostError(Exception):
    """No study's results can be written: the disk is full, or away."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is done with each study.

    Attributes:
        output: the folder of results.
        run: which run it is.
        options: of the analysis.
        in_flight: requests under way at a time.
        min_component_ml: see `Client.analyze_volume`.
        formats: of the files.
        series: see `read_volume`.
        window: see `read_volume`.
        ready_s: how long the server is waited for, in seconds.
        rename: see `Result.keep`.
    """

    output: Path
    run: str
    options: Options
    in_flight: int
    min_component_ml: float
    formats: Formats
    series: Choice | None
    window: bool
    ready_s: float
    rename: bool


@dataclass(frozen=True)
class Telling:
    """Whom a study's analysis tells how far it is.

    Attributes:
        slices: is called with how many slices there are, and how many of them are done.
        waiting: is called with True when the server is waited for, and with False when it is there again.
    """

    slices: Callable[[int, int], None]
    waiting: Callable[[bool], None]


def wait_for_server(client: Client, ready_s: float, telling: Telling) -> None:
    """Waits until the server is ready.

    Raises:
        ServerLostError: it was not in time.
    """
    telling.waiting(True)
    try:
        client.wait_until_ready(ready_s)
    except GliogateError as error:
        raise ServerLostError(str(error)) from error
    telling.waiting(False)


def analyze_study(client: Client, study: Study, wanted: Wanted, scratch: Path, telling: Telling) -> Result:
    """Analyzes a study; what went wrong with it alone is in the result, which is kept only where nothing did.

    Raises:
        ServerLostError: the server is gone.
        OutputLostError: nothing can be written any more.
    """
    begin = time.monotonic()

    def result(error: str | None, **facts: object) -> Result:
        return Result(study.name, wanted.run, error, round(time.monotonic() - begin, 3), **facts)  # type: ignore[arg-type]

    try:
        volume = read_volume(study.path, series=wanted.series, window=wanted.window)
        check_droppable(volume, wanted.min_component_ml)
        suitable = of_volume(volume, wanted.formats, beside_mask=USUAL)
        analyses = _analyze_slices(client, volume, wanted, telling)
        analysis = VolumeAnalysis.of(volume, analyses, min_component_ml=wanted.min_component_ml)
    except ServerLostError:
        raise
    except (GliogateError, OSError) as error:
        return result(str(error))
    except Exception as error:  # A fault of ours, or of a library, that one study led to.
        return result(f"{study.path}: {type(error).__name__}: {error}")
    try:
        written = write_volume(analysis, Path(study.stem), scratch / FILES, suitable, are_usual=wanted.formats is None)
        for refusal in written.refusals:
            _raise_if_of_all(refusal)
        if written.error:
            return result(written.error)
        files = tuple(sorted(str(path.relative_to(scratch)) for path in (scratch / FILES).rglob("*") if path.is_file()))
        found = {**analysis.to_dict(), "notes": [*analysis.notes, *written.notes]}
        done = result(None, files=files, found=found)
        done.keep(folder_of(wanted.output, study.name), scratch, rename=wanted.rename)
    except OSError as error:
        _raise_if_of_all(error)
        return result(str(error))
    return done


def _raise_if_of_all(error: OSError) -> None:
    if error.errno in OF_ALL:
        raise OutputLostError(str(error)) from error


def _analyze_slices(client: Client, volume: Volume, wanted: Wanted, telling: Telling) -> list[Analysis]:
    """Asks about all slices; those that a server took with it when it went are asked about again.

    Raises:
        RequestError: the server refused a slice, or again and again answered none.
        ServerLostError: it did not come back.
    """
    done: dict[int, Analysis] = {}
    count = len(volume.slices)
    telling.slices(count, 0)
    fruitless = 0
    while left := [index for index in range(count) if index not in done]:
        problem = None
        before = len(done)
        asked = client.analyze_slices(
            volume, slices=left, in_flight=wanted.in_flight, on_error="return", **wanted.options
        )
        # Once one is not answered no more are sent: what is under way is asked about again.
        with closing(asked):
            for index, answer in asked:
                if isinstance(answer, Analysis):
                    done[index] = answer
                    telling.slices(count, len(done))
                elif isinstance(answer, RequestError) and answer.may_retry:
                    problem = answer
                    break
                elif isinstance(answer, AuthenticationError):  # It will let in no other study either.
                    raise ServerLostError(str(answer)) from answer
                else:
                    raise answer
        if problem is None:
            continue
        fruitless = fruitless + 1 if len(done) == before else 0
        if fruitless == _ROUNDS:
            raise problem
        if client.is_ready():
            time.sleep(_PAUSE_S)  # It has too much to do, as a rule.
        else:
            wait_for_server(client, wanted.ready_s, telling)
    return [done[index] for index in range(count)]
