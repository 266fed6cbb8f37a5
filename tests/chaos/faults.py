"""What befalls a server. Each fault is a context: it begins, lasts, and is taken back."""

import contextlib
import errno
import multiprocessing
import os
import random
import shutil
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gliogate.contract import DETECTOR, ENSEMBLE, MODELS

from . import strangers
from .stage import Stage

WRONG_CALLERS = 4
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: for the table.
        begin: makes it happen for as long as the context lasts.
        lasts_s: how long that is.
        restarts: whether Triton or the proxy has to be started again.
        fills_shared_memory: whether it needs a /dev/shm that is the server's alone.
    """

    name: str
    begin: Callable[[Stage, random.Random], contextlib.AbstractContextManager[None]]
    lasts_s: float
    restarts: bool = False
    fills_shared_memory: bool = False


STRANGERS: Counter[str] = Counter()
"""What became of wrong requests and attacks."""


@contextmanager
def kill_triton(stage: Stage, _: random.Random) -> Iterator[None]:
    stage.signal([stage.process_of("tritonserver")], signal.SIGKILL)
    yield


@contextmanager
def kill_a_model(stage: Stage, chance: random.Random) -> Iterator[None]:
    stage.signal([chance.choice(list(stage.models()))], signal.SIGKILL)
    yield


@contextmanager
def stop_a_model(stage: Stage, chance: random.Random) -> Iterator[None]:
    """It is not continued: who heals has to replace it."""
    stage.signal([chance.choice(list(stage.models()))], signal.SIGSTOP)
    yield


@contextmanager
def pause_everything(stage: Stage, _: random.Random) -> Iterator[None]:
    processes = stage.processes()
    stage.signal(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        stage.signal(processes, signal.SIGCONT)


@contextmanager
def kill_the_proxy(stage: Stage, _: random.Random) -> Iterator[None]:
    stage.signal([stage.process_of("from proxy.main import main")], signal.SIGKILL)
    yield


@contextmanager
def slow_the_wire(stage: Stage, _: random.Random) -> Iterator[None]:
    stage.relay.delay_s = 0.05
    try:
        yield
    finally:
        stage.relay.delay_s = 0.0


@contextmanager
def slow_the_machine(_: Stage, __: random.Random) -> Iterator[None]:
    """Busy loops on twice as many threads as there are cores."""
    children = [
        os.posix_spawn("/bin/sh", ["sh", "-c", "while :; do :; done"], {}) for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@contextmanager
def cut_connections(stage: Stage, _: random.Random) -> Iterator[None]:
    stage.relay.cut()
    yield


@contextmanager
def half_open_connections(stage: Stage, _: random.Random) -> Iterator[None]:
    stage.relay.swallow()
    yield


@contextmanager
def fill_shared_memory(stage: Stage, _: random.Random) -> Iterator[None]:
    filler = stage.shared_memory / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(2**12))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
        yield
    finally:
        filler.unlink(missing_ok=True)


@contextmanager
def wrong_requests(stage: Stage, chance: random.Random) -> Iterator[None]:
    """From several callers at once, each as fast as it is answered."""
    with _elsewhere([(strangers.ask_wrongly, stage, chance.random()) for _ in range(WRONG_CALLERS)]):
        yield


@contextmanager
def attacks(stage: Stage, chance: random.Random) -> Iterator[None]:
    """What ends a Triton 2.51 that is open to strangers, and what fills its memory."""
    with _elsewhere([(strangers.attack, stage, chance.random())]):
        yield


@contextmanager
def good_version(stage: Stage, _: random.Random) -> Iterator[None]:
    """The next version, of the same networks: they first, for the gate asks them."""
    repository = stage.repository
    newest = max(int(path.name) for path in (repository / ENSEMBLE.name).iterdir() if path.name.isdecimal())
    for model in sorted(MODELS, key=lambda model: model is ENSEMBLE):
        # Whole, or not at all: Triton looks there every second.
        arriving = shutil.copytree(repository / model.name / str(newest), repository.parent / model.name)
        arriving.rename(repository / model.name / str(newest + 1))
        _wait_until_ready(stage, model.name, newest + 1)
    yield


@contextmanager
def broken_version(stage: Stage, _: random.Random) -> Iterator[None]:
    """A detector that is no network, as a version beyond all others."""
    folder = stage.repository / DETECTOR.name / "999"
    folder.mkdir()
    for name in ("model.onnx", "model_cpu.onnx"):
        (folder / name).write_bytes(b"no network")
    try:
        yield
    finally:
        shutil.rmtree(folder)


FAULTS = (
    Fault("Triton killed", kill_triton, 1, restarts=True),
    Fault("a model's process killed", kill_a_model, 1, restarts=True),
    Fault("all processes stopped for 4 s", pause_everything, 4, restarts=True),
    Fault("a model's process stopped for good", stop_a_model, 1, restarts=True),
    Fault("the proxy killed", kill_the_proxy, 1, restarts=True),
    Fault("shared memory full for 5 s", fill_shared_memory, 5, restarts=True, fills_shared_memory=True),
    Fault("connections cut", cut_connections, 1),
    Fault("wrong requests, 4 callers", wrong_requests, 20),
    Fault("connections half open", half_open_connections, 1),
    Fault("attacks by HTTP and gRPC", attacks, 20),
    Fault("a new version", good_version, 5),
    Fault("the machine twice as busy as it can be", slow_the_machine, 15),
    Fault("wrong requests, 4 callers", wrong_requests, 20),
    Fault("the wire slow, 50 ms for each piece", slow_the_wire, 15),
    Fault("a broken version", broken_version, 5),
)
"""In their turns; those that have Triton started again take turns of their own (see `campaign`)."""


@contextmanager
def _elsewhere(works: list[tuple[Callable[..., None], Stage, float]]) -> Iterator[None]:
    """Strangers work in processes of their own: the load keeps its time."""
    processes = multiprocessing.get_context("spawn")
    until, told = processes.Event(), processes.SimpleQueue()
    started = [processes.Process(target=work, args=(stage.addresses, seed, until, told)) for work, stage, seed in works]
    for process in started:
        process.start()
    try:
        yield
    finally:
        until.set()
        for process in started:
            process.join(TIMEOUT_S)
        while not told.empty():
            STRANGERS.update(told.get())


def _wait_until_ready(stage: Stage, model: str, version: int) -> None:
    deadline = time.monotonic() + 30
    url = f"{stage.addresses['http_url']}/v2/models/{model}/versions/{version}/ready"
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    raise TimeoutError(f"{url} was not ready within 30 s")
