"""What befalls a server. Each fault is a context: it begins, lasts, and is taken back."""

import contextlib
import os
import random
import shutil
import signal
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import grpc
from support.wrong_requests import generate
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gliogate.contract import DETECTOR, ENSEMBLE, MODELS

from .stage import Stage

WRONG_CALLERS = 4


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: for the table.
        begin: makes it happen for as long as the context lasts.
        lasts_s: how long that is.
        restarts: whether Triton has to be started again.
    """

    name: str
    begin: Callable[[Stage, random.Random], contextlib.AbstractContextManager[None]]
    lasts_s: float
    restarts: bool = False


@dataclass
class Wrong:
    """What became of wrong requests, and of attacks."""

    requests: Counter[str] = field(default_factory=Counter)
    late: int = 0


WRONG = Wrong()


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
    stage.signal([stage.process_of("proxy.main")], signal.SIGKILL)
    yield


@contextmanager
def slow_the_wire(stage: Stage, _: random.Random) -> Iterator[None]:
    stage.relay.delay_s = 0.05
    try:
        yield
    finally:
        stage.relay.delay_s = 0.0


@contextmanager
def slow_the_machine(stage: Stage, _: random.Random) -> Iterator[None]:
    """Busy loops on twice as many threads as there are cores."""
    children = [os.posix_spawn("/bin/sh", ["sh", "-c", "while :; do :; done"], {}) for _ in range(2 * (os.cpu_count() or 1))]
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
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(2**20))
            file.flush()
    try:
        yield
    finally:
        filler.unlink(missing_ok=True)


@contextmanager
def wrong_requests(stage: Stage, chance: random.Random) -> Iterator[None]:
    """From several callers at once, each as fast as it is answered."""
    with _elsewhere(lambda until: _ask_wrongly(stage, random.Random(chance.random()), until), WRONG_CALLERS):
        yield


@contextmanager
def attacks(stage: Stage, chance: random.Random) -> Iterator[None]:
    """What ends a Triton 2.51 that is open to strangers, and what fills its memory."""
    with _elsewhere(lambda until: _attack(stage, random.Random(chance.random()), until), 1):
        yield


@contextmanager
def good_version(stage: Stage, _: random.Random) -> Iterator[None]:
    """The next version, of the same networks: they first, for the gate asks them."""
    repository = stage.repository
    newest = max(int(path.name) for path in (repository / ENSEMBLE.name).iterdir() if path.name.isdecimal())
    for model in sorted(MODELS, key=lambda model: model is ENSEMBLE):
        arriving = shutil.copytree(repository / model.name / str(newest), repository / f".arriving-{model.name}")
        os.rename(arriving, repository / model.name / str(newest + 1))
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
    Fault("connections cut", cut_connections, 1),
    Fault("wrong requests, 4 callers", wrong_requests, 20),
    Fault("a model's process killed", kill_a_model, 1, restarts=True),
    Fault("connections half open", half_open_connections, 1),
    Fault("attacks by HTTP and gRPC", attacks, 20),
    Fault("all processes stopped for 4 s", pause_everything, 4, restarts=True),
    Fault("a new version", good_version, 5),
    Fault("the machine twice as busy as it can be", slow_the_machine, 15),
    Fault("a model's process stopped for good", stop_a_model, 1, restarts=True),
    Fault("the wire slow, 50 ms for each piece", slow_the_wire, 15),
    Fault("the proxy killed", kill_the_proxy, 1),
    Fault("shared memory full for 5 s", fill_shared_memory, 5, restarts=True),
    Fault("a broken version", broken_version, 5),
    Fault("wrong requests, 4 callers", wrong_requests, 20),
)


@contextmanager
def _elsewhere(work: Callable[[threading.Event], None], threads: int) -> Iterator[None]:
    until = threading.Event()
    started = [threading.Thread(target=work, args=(until,)) for _ in range(threads)]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        until.set()
        for thread in started:
            thread.join()


def _ask_wrongly(stage: Stage, chance: random.Random, until: threading.Event) -> None:
    with grpc.insecure_channel(stage.addresses["url"], options=[("grpc.max_send_message_length", -1)]) as channel:
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        while not until.is_set():
            try:
                triton.ModelInfer(generate(chance), timeout=20)
                WRONG.requests["answered"] += 1
            except grpc.RpcError as error:
                WRONG.requests[error.code().name] += 1
            except ValueError:  # One that cannot even be sent.
                WRONG.requests["unsendable"] += 1


def _attack(stage: Stage, chance: random.Random, until: threading.Event) -> None:
    head = b"POST /v2/models/brain_tumor/infer HTTP/1.1\r\nHost: a\r\n"
    chunks = [head + b"Transfer-Encoding: chunked\r\n\r\n", *([b"1\r\na\r\n" * 10_000] * 60)]
    nested = [head + b"Content-Length: 3000000\r\n\r\n", b"[" * 3_000_000]
    garbage = [chance.randbytes(chance.randrange(1, 100_000))]
    while not until.is_set():
        for url in ("http_url", "metrics_url", "url"):
            for attack in (chunks, nested, garbage):
                _send(stage.addresses[url], attack)
                WRONG.requests["attacks"] += 1
        _send_bomb(stage.addresses["url"])
        WRONG.requests["attacks"] += 1


def _send(url: str, pieces: list[bytes]) -> None:
    parts = urlsplit(url if "//" in url else f"//{url}")
    with contextlib.suppress(OSError), socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.recv(65_536)


def _send_bomb(url: str) -> None:
    """Half a gigabyte of nothing, in half a megabyte."""
    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE.name, raw_input_contents=[bytes(2**29)])
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(url, compression=grpc.Compression.Gzip, options=options) as channel:
        with contextlib.suppress(grpc.RpcError):
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=20)


def _wait_until_ready(stage: Stage, model: str, version: int) -> None:
    deadline = time.monotonic() + 30
    url = f"{stage.addresses['http_url']}/v2/models/{model}/versions/{version}/ready"
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
