"""`python -m benchmarks.cohort`: the rate of `gliogate cohort` against that of `analyze_many` over the same slices.

Both ask one embedded server, in rounds in which they take turns, in an order that is drawn anew each time; a ratio is
of the same round. `analyze_many` has its slices in memory. `gliogate cohort` is measured as a user meets it, from the
command to its end: Python's start, the workers', reading, writing and the table are part of it.

Prints a table, and writes `build/bench/cohort.json`.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import nibabel
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.goals import PREVALENCE
from benchmarks.workload import Workload
from gliogate import Client
from gliogate.cohort.studies import find_studies
from gliogate.contract import CHANNELS
from gliogate.embedded import EmbeddedServer, find_model_repository
from gliogate.volumes import read_volume

if TYPE_CHECKING:
    from benchmarks.pair import Images

SLICES = (20, 60)
"""Fewest and most of a head."""

SPACING_MM = (1.0, 1.0, 5.0)

COHORT, MANY = "gliogate cohort", "analyze_many"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cohort", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each has its turn")
    parser.add_argument("--heads", type=int, default=40, help="studies, synthetic ones in NIfTI")
    parser.add_argument("--studies", type=Path, help="a folder of other studies")
    parser.add_argument("--model-repository", type=Path, help="another one than this checkout's")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="the folder for files")
    parser.add_argument("options", nargs="*", metavar="-- OPTION", help="of `gliogate cohort`")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        work = Path(stack.enter_context(TemporaryDirectory()))
        folder = options.studies or _draw(work / "studies", options.heads)
        slices = [image for study in find_studies(folder, "*").studies for image in read_volume(study.path).slices]
        server = stack.enter_context(EmbeddedServer(find_model_repository(options.model_repository)))
        client = stack.enter_context(Client(server.url))
        ways = {
            MANY: lambda: sum(1 for _ in client.analyze_many(slices)),
            COHORT: lambda: _run(folder, work / "results", server.url, options.options),
        }
        list(client.analyze_many(slices[:100]))
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in track(range(options.rounds), "measuring", transient=True):
            for name, way in random.sample(list(ways.items()), len(ways)):
                begin = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - begin)
    report = {
        "slices": len(slices),
        "rates": {name: [len(slices) / each for each in taken] for name, taken in seconds.items()},
        "ratios": [float(each) for each in np.divide(seconds[MANY], seconds[COHORT])],
    }
    (options.output / "cohort.json").write_text(json.dumps(report, indent=2) + "\n")
    _show(report, Console())


def _draw(folder: Path, heads: int) -> Path:
    """Heads of FLAIR alone, in NIfTI, with tumor in some slices of some."""
    folder.mkdir()
    chance = random.Random(0)  # noqa: S311
    for number in range(heads):
        images: Images = Workload.draw(chance.randint(*SLICES), PREVALENCE).images
        voxels = images[..., CHANNELS.index("FLAIR")].transpose(2, 1, 0)[::-1, ::-1]
        head = nibabel.Nifti1Image(np.ascontiguousarray(voxels), np.diag((*SPACING_MM, 1)))
        nibabel.save(head, folder / f"head{number:03}_flair.nii.gz")
    return folder


def _run(folder: Path, output: Path, url: str, options: Sequence[str]) -> None:
    shutil.rmtree(output, ignore_errors=True)
    command = [Path(sys.executable).with_name("gliogate"), "cohort", folder, "--output", output, "--url", url, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _show(report: dict[str, dict[str, list[float]]], console: Console) -> None:
    table = Table(f"{report['slices']} slices", "slices/s, median", "lowest", "highest")
    for name, figures in (*report["rates"].items(), (f"{COHORT} / {MANY}", report["ratios"])):
        digits = 2 if figures is report["ratios"] else 1
        table.add_row(name, *(f"{figure:.{digits}f}" for figure in (median(figures), min(figures), max(figures))))
    console.print(table)


if __name__ == "__main__":
    main()
