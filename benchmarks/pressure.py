"""`python -m benchmarks.pressure`: what the served ensemble does at several times the rate that it can sustain.

First as fast as it goes, closed loop; then arrivals at a constant rate, a multiple of that, whatever comes back.
Prints, and writes to `build/bench/pressure.json`: the share of the peak throughput that is kept, how long answers and
refusals take, what the refusals are, and memory minute by minute. Prints the first and the last beside their bars, too.
"""

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from benchmarks.goals import PREVALENCE, Goal
from benchmarks.pair import OURS, Images
from benchmarks.processes import FailedError, Process
from benchmarks.report import goals_table, terminal
from benchmarks.repositories import networks_of
from benchmarks.systems import Workshop
from benchmarks.workload import Workload
from gliogate.contract import ENSEMBLE, IMAGE, SEGMENTED, TUMOR_MASK, TUMOR_PROBABILITY
from gliogate.embedded import find_model_repository
from gliogate.wire import WAITING_SHARE

OUTPUTS = (TUMOR_PROBABILITY, TUMOR_MASK, SEGMENTED)
WARM_UP_S = 5.0
IN_FLIGHT = 64


class Load:
    """Requests that are sent on time, and what became of them.

    Attributes:
        outcomes: of each, in the order in which they ended: its status, `OK` among them, when it ended, and how many
            seconds it took.
    """

    def __init__(self, url: str, images: Images, deadline_s: float) -> None:
        self._client = InferenceServerClient(url)
        self._deadline_s = deadline_s
        self._inputs = [self._input(image) for image in images]
        self._lock = threading.Lock()
        self.sent = 0
        self.outcomes: list[tuple[str, float, float]] = []

    @staticmethod
    def _input(image: Images) -> InferInput:
        tensor = InferInput(IMAGE.name, (1, *IMAGE.shape), IMAGE.dtype)
        tensor.set_data_from_numpy(image[np.newaxis])
        return tensor

    def send(self) -> None:
        """Starts the next request."""
        start = time.perf_counter()

        def ended(result: InferResult | None, error: InferenceServerException | None) -> None:  # noqa: ARG001
            now = time.perf_counter()
            status = "OK" if error is None else str(error.status()).removeprefix("StatusCode.")
            with self._lock:
                self.outcomes.append((status, now, now - start))

        self._client.async_infer(
            ENSEMBLE.name,
            [self._inputs[self.sent % len(self._inputs)]],
            callback=ended,
            outputs=[InferRequestedOutput(output.name) for output in OUTPUTS],
            client_timeout=self._deadline_s,
            timeout=round(1e6 * WAITING_SHARE * self._deadline_s),
        )
        self.sent += 1

    @property
    def under_way(self) -> int:
        """How many have not ended."""
        return self.sent - len(self.outcomes)

    def closed(self, seconds: float) -> None:
        """Keeps `IN_FLIGHT` under way."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if self.under_way < IN_FLIGHT:
                self.send()
            else:
                time.sleep(0.001)
        self.drain()

    def open(self, rate: float, seconds: float) -> float:
        """Sends at a constant rate, whatever comes back; returns by how many seconds it fell behind at most."""
        start, behind = time.perf_counter(), 0.0
        for index in range(int(rate * seconds)):
            due = start + index / rate
            if (early := due - time.perf_counter()) > 0:
                time.sleep(early)
            behind = max(behind, time.perf_counter() - due)
            self.send()
        self.drain()
        return behind

    def drain(self) -> None:
        """Waits until all have ended."""
        end = time.perf_counter() + 2 * self._deadline_s
        while self.under_way and time.perf_counter() < end:
            time.sleep(0.01)

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pressure", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the pressure lasts")
    parser.add_argument("--factor", type=float, default=3.0, help="of the rate that it can sustain")
    parser.add_argument("--deadline", type=float, default=2.0, help="of each request, in seconds")
    parser.add_argument("--peak-seconds", type=float, default=30.0, help="how long the peak is measured")
    parser.add_argument("--model-repository", type=Path, help="another one than this checkout's")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="the folder for files")
    options = parser.parse_args(arguments)
    repository = find_model_repository(options.model_repository)
    workshop = Workshop(repository, networks_of(repository, OURS), options.output.absolute())
    images = Workload.draw(96, PREVALENCE).images
    with workshop.serve(repository) as (process, url):
        report = measure(process, url, images, options)
    (options.output / "pressure.json").write_text(json.dumps(report, indent=2) + "\n")
    console = terminal()
    console.print_json(data=report)
    console.print(goals_table(goals(report)))


def measure(process: Process, url: str, images: Images, options: argparse.Namespace) -> dict[str, Any]:
    """The peak, and then the pressure."""
    load = Load(url, images, deadline_s=60.0)
    load.closed(WARM_UP_S)
    before, start = len(load.outcomes), time.perf_counter()
    load.closed(options.peak_seconds)
    peak = answered(load.outcomes[before:]) / (time.perf_counter() - start)
    load.close()
    if not peak:
        raise FailedError(f"nothing was answered without pressure: {Counter(status for status, *_ in load.outcomes)}")

    load = Load(url, images, options.deadline)
    memory: list[float] = []
    stop = threading.Event()

    def weigh() -> None:
        minute = 60.0 if options.minutes > 1 else 60.0 * options.minutes / 4
        while not stop.wait(minute):
            memory.append(process.take_peak() / 1e6)

    scales = threading.Thread(target=weigh)
    scales.start()
    process.take_peak()
    start = time.perf_counter()
    behind = load.open(options.factor * peak, 60.0 * options.minutes)
    seconds = time.perf_counter() - start
    stop.set()
    scales.join()
    load.close()
    by_status: dict[str, list[float]] = {}
    for status, _, took in load.outcomes:
        by_status.setdefault(status, []).append(took)
    rate = answered(load.outcomes) / seconds
    return {
        "peak_images_per_s": peak,
        "offered_per_s": options.factor * peak,
        "answered_per_s": rate,
        "share_of_peak": rate / peak,
        "deadline_s": options.deadline,
        "outcomes": Counter(status for status, _, _ in load.outcomes),
        "median_ms": {status: 1e3 * median(taken) for status, taken in by_status.items()},
        "p99_ms": {status: 1e3 * float(np.percentile(taken, 99)) for status, taken in by_status.items()},
        "unanswered": load.under_way,
        "sender_behind_s": behind,
        "peak_mb_by_minute": memory,
    }


def answered(outcomes: Sequence[tuple[str, float, float]]) -> int:
    """How many of `Load.outcomes` are answers: a refusal is no throughput."""
    return sum(status == "OK" for status, _, _ in outcomes)


def goals(report: dict[str, Any]) -> list[Goal]:
    """What the server is to hold under pressure; memory only where it was weighed thrice."""
    memory = report["peak_mb_by_minute"]
    third = len(memory) // 3
    kept = Goal("of the peak throughput, under pressure", report["share_of_peak"], 0.9)
    if not third:
        return [kept]
    # Medians: a burst of one minute is no growth, and what fills at the start is there in the first third already.
    growth = median(memory[-third:]) / median(memory[:third])
    return [kept, Goal("memory, the last third of the time against the first", growth, 1.05, at_most=True)]


if __name__ == "__main__":
    main()
