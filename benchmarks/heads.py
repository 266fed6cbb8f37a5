"""`python -m benchmarks.heads`: a head that is judged as a whole, against its slices judged one by one.

`analyze_volume` asks two embedded servers of the same networks about the same heads: one that has `brain_volume`, and
one that has not, of which every slice is asked for by itself. They take turns, in an order that is drawn anew for each
head; a ratio is of the same head in the same round.

Prints a table, and writes `build/bench/heads.json`.
"""

import argparse
import json
import random
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.goals import PREVALENCE
from benchmarks.workload import Workload
from gliogate import Client
from gliogate.cohort.studies import find_studies
from gliogate.contract import VOLUME
from gliogate.embedded import EmbeddedServer, find_model_repository
from gliogate.volumes import Volume, read_volume

WHOLE, SLICES = "brain_volume", "slice by slice"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heads", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each head has its turn (%(default)s)")
    parser.add_argument("--heads", type=int, default=10, help="how many heads (%(default)s)")
    parser.add_argument("--slices", type=int, default=40, help="of a head that is made up (%(default)s)")
    parser.add_argument("--studies", type=Path, help="a folder of studies, in place of heads that are made up")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="the folder for the file")
    options = parser.parse_args(arguments)
    heads = _read(options.studies, options.heads) if options.studies else _draw(options.heads, options.slices)
    seconds: dict[str, list[float]] = {WHOLE: [], SLICES: []}
    with ExitStack() as stack:
        repository = find_model_repository()
        without = Path(stack.enter_context(TemporaryDirectory())) / "models"
        shutil.copytree(repository, without, ignore=shutil.ignore_patterns(VOLUME.name))
        clients = {
            name: stack.enter_context(Client(stack.enter_context(EmbeddedServer(models)).url))
            for name, models in ((WHOLE, repository), (SLICES, without))
        }
        for client in clients.values():
            client.analyze_volume(heads[0])  # The first is not the one to time.
        for head in track(heads * options.rounds, "measuring", transient=True, console=Console(stderr=True)):
            for name, client in random.sample([*clients.items()], len(clients)):
                begin = time.perf_counter()
                client.analyze_volume(head)
                seconds[name].append(time.perf_counter() - begin)
    slices = sum(len(head.slices) for head in heads) * options.rounds
    ratios = [whole / single for whole, single in zip(*seconds.values(), strict=True)]
    spread = [quantiles(ratios, n=4)[index] for index in (0, 2)]
    report = {
        "heads": len(heads),
        "slices": slices // options.rounds,
        "rates": {name: slices / sum(taken) for name, taken in seconds.items()},
        "ratio": median(ratios),
        "ratio_quartiles": spread,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "heads.json").write_text(json.dumps(report, indent=2) + "\n")
    table = Table("heads", "slices", *(f"slices/s, {name}" for name in seconds), "time, ratio", "quartiles")
    rates = [f"{slices / sum(taken):.1f}" for taken in seconds.values()]
    low, high = spread
    table.add_row(f"{len(heads)}", f"{report['slices']}", *rates, f"{report['ratio']:.2f}", f"{low:.2f} to {high:.2f}")
    Console().print(table)


def _read(folder: Path, most: int) -> list[Volume]:
    studies = find_studies(folder, "*").studies
    return [read_volume(study.path) for study in studies[:: max(1, len(studies) // most)][:most]]


def _draw(heads: int, slices: int) -> list[Volume]:
    """Heads whose slices are phantoms, and no neighbours."""
    images = Workload.draw(heads * slices, PREVALENCE).images
    return [read_volume(each) for each in images.reshape(heads, slices, *images.shape[1:])]


if __name__ == "__main__":
    main()
