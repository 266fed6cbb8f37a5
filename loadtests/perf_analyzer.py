"""`python -m loadtests.perf_analyzer`: the same server, measured by this suite and by NVIDIA's perf_analyzer in turns.

`loadtests/get_perf_analyzer.sh` gets the binary and, beside it in `lib/`, the libraries that it needs. Both send the
same phantoms and ask for every output, since perf_analyzer knows no other way, at the same number of requests under
way, and at the same rates of evenly spaced arrivals.
"""

# isort: split
from loadtests import patched  # noqa: F401  before anything else

# isort: split
import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from gliogate import GliogateError
from gliogate.contract import ENSEMBLE, IMAGE
from loadtests.arrivals import Arrivals, Flat
from loadtests.calls import Call, Mix
from loadtests.conductor import Conductor
from loadtests.errors import LoadTestError, SettingsError
from loadtests.options import positive
from loadtests.perf_table import Load, Measured, read_table
from loadtests.run import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from loadtests.session import Team, conducting, embedded
from loadtests.settings import Settings, add_arguments
from loadtests.stage import Stage

EVERY_OUTPUT: Final = Mix((Call("every output", mask_probability=True),))
BINARY: Final = Path("build/perf_analyzer/perf_analyzer")
WARM_UP_S: Final = 2.0
PATIENCE_S: Final = 120.0
"""How much longer than its measurement perf_analyzer may take."""

THROUGHPUT_WITHIN, LATENCY_WITHIN = 0.03, 0.05
"""By how much both may differ before it wants an explanation."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, and prints a table; returns 1 where both differ by more than they may."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.perf_analyzer", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--embedded", action="store_true", help="start a server on this machine, and measure that one")
    parser.add_argument("--binary", type=Path, default=BINARY, metavar="FILE", help="(%(default)s)")
    parser.add_argument("--concurrency", type=positive(int), nargs="*", default=[1, 4, 16], metavar="N")
    parser.add_argument("--rates", type=positive(float), nargs="*", default=[5.0, 10.0, 20.0], metavar="R")
    parser.add_argument("--rounds", type=positive(int), default=3, metavar="N", help="(%(default)s)")
    parser.add_argument(
        "--window-s", type=positive(float), default=10.0, metavar="S", help="of each measurement (%(default)g)"
    )
    parser.add_argument("--output", type=Path, default=Path("build/loadtest/perf_analyzer.json"), metavar="FILE")
    arguments = parser.parse_args(argv)
    loads = [*map(Load, arguments.concurrency), *(Load(rate=rate) for rate in arguments.rates)]
    try:
        settings = Settings.of(arguments)
        if settings.protocol != "grpc" or settings.ca:
            raise SettingsError("both are measured over gRPC in clear text: leave out --protocol and --ca")
        if not arguments.binary.exists():
            raise SettingsError(f"--binary: {arguments.binary} is not there; loadtests/get_perf_analyzer.sh gets it")
        with ExitStack() as stack:
            if arguments.embedded:
                settings = stack.enter_context(embedded(settings))
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            conductor = stack.enter_context(conducting(settings, Team(), lambda *_: None, []))
            data = _write_data(Path(folder) / "data.json", settings)
            ours: dict[Load, list[Measured]] = {load: [] for load in loads}
            theirs: dict[Load, list[Measured]] = {load: [] for load in loads}
            for turn in range(arguments.rounds):
                for load in loads:
                    print(f"round {turn + 1}: {load}", file=sys.stderr)
                    ours[load].append(_measure(conductor, settings, load, arguments.window_s))
                    theirs[load].append(_analyze(arguments.binary, data, settings, load, arguments.window_s))
    except (LoadTestError, GliogateError, OSError) as error:
        print(f"loadtests: error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return _tell(ours, theirs, arguments.output)


def _measure(conductor: Conductor, settings: Settings, load: Load, window_s: float) -> Measured:
    result = conductor.measure(
        Stage(
            str(load),
            WARM_UP_S + window_s,
            None if load.concurrency else Arrivals(Flat(load.rate), "constant"),
            users=load.concurrency,
            mix=EVERY_OUTPUT,
            prevalence=settings.prevalence[0],
            warm_up_s=WARM_UP_S,
        )
    )
    faults = (*result.faults, *([result.failures] if result.failures else []))
    for fault in faults:
        print(f"  {fault}", file=sys.stderr)
    figures = result.figures
    rate, p50_ms, p99_ms = (float(figures[name] or 0.0) for name in ("rate", "service_p50_ms", "service_p99_ms"))
    return Measured(rate, p50_ms, p99_ms, faults)


def _analyze(binary: Path, data: Path, settings: Settings, load: Load, window_s: float) -> Measured:
    table = data.with_name("table.csv")
    how = (
        [f"--concurrency-range={load.concurrency}"]
        if load.concurrency
        else [f"--request-rate-range={load.rate:g}", "--request-distribution=constant"]
    )
    command = [str(binary), "-m", ENSEMBLE.name, "-i", "grpc", "-u", settings.url, f"--input-data={data}"]
    # It measures three windows, and tells their mean if they agree: whatever they are, as ours are.
    command += [*how, f"--measurement-interval={round(1000 * window_s / 3)}", "--max-trials=3", "-s", "999"]
    command += ["-f", str(table)]
    libraries = os.pathsep.join(filter(None, [str(binary.parent / "lib"), os.environ.get("LD_LIBRARY_PATH")]))
    surroundings = os.environ | {"LD_LIBRARY_PATH": libraries}
    patience_s = window_s + PATIENCE_S
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=surroundings, timeout=patience_s
        )
    except subprocess.TimeoutExpired as error:
        raise LoadTestError(f"{binary} did not end within {patience_s:g} s at {load}") from error
    if done.returncode or not table.exists():
        raise LoadTestError(f"{binary} failed at {load}: {(done.stdout + done.stderr).strip()[-500:]}")
    text = table.read_text()
    table.unlink()
    return read_table(text, load)


def _ratio(mine: float, other: float) -> float:
    return mine / other if other else float("nan")


def _write_data(path: Path, settings: Settings) -> Path:
    """The phantoms, as perf_analyzer reads them."""
    pool = settings.source().at(settings.prevalence[0])
    entries = [{IMAGE.name: {"b64": base64.b64encode(slice_.tobytes()).decode()}} for slice_ in pool.slices]
    path.write_text(json.dumps({"data": entries}))
    return path


def _tell(ours: dict[Load, list[Measured]], theirs: dict[Load, list[Measured]], output: Path) -> int:
    table = Table("load", "figure", "this suite", "perf_analyzer", "ratio", "rounds' range", "")
    rows: list[dict[str, Any]] = []
    differs = False
    for load in ours:
        for name, within in (("throughput", THROUGHPUT_WITHIN), ("p50_ms", LATENCY_WITHIN), ("p99_ms", LATENCY_WITHIN)):
            mine, other = ([getattr(each, name) for each in measured[load]] for measured in (ours, theirs))
            ratio = _ratio(statistics.median(mine), statistics.median(other))
            faults = sorted({fault for each in ours[load] for fault in each.faults})
            # Not the same figure within what is allowed, NaN included.
            is_same = abs(ratio - 1) <= within
            differs |= not is_same or bool(faults)
            ratios = sorted(_ratio(a, b) for a, b in zip(mine, other, strict=True))
            rows.append({"load": str(load), "figure": name, "ours": mine, "perf_analyzer": other, "ratio": ratio})
            rows[-1]["faults"] = faults
            table.add_row(
                str(load),
                name,
                f"{statistics.median(mine):.2f}",
                f"{statistics.median(other):.2f}",
                f"{ratio:.3f}",
                f"{ratios[0]:.3f} to {ratios[-1]:.3f}",
                "invalid" if faults else "" if is_same else "differs",
            )
    Console().print(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows, indent=2) + "\n")
    return EXIT_FAILED if differs else 0


if __name__ == "__main__":
    sys.exit(main())
