"""Everything that the benchmark compares: how each is started, and how it is asked."""

import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks import clients
from benchmarks.environments import own_python, python_of
from benchmarks.measured import Asked, Measured
from benchmarks.pair import DOCUMENTED, ENVIRONMENT, OURS, TRIED, Images, Networks, open_network
from benchmarks.processes import Process, free_port
from benchmarks.repositories import build_batching_networks, build_fused, build_plain_ensemble, networks_of
from gliogate.contract import ENSEMBLE

ROOT = Path(__file__).parents[1]
IN_FLIGHT = (1, 4, 16, 64)
BATCHES = (1, 4, 16)
IN_PROCESS = "in one process"
"""What the names of those without a server begin with."""

Kind = Literal["limit", "tried", "gliogate", "always", "peer"]


@dataclass(frozen=True)
class Running:
    """A system that is up.

    Attributes:
        process: all that it runs.
        ask: asks it.
    """

    process: Process
    ask: Asked


@dataclass(frozen=True)
class System:
    """One thing to compare.

    Attributes:
        name: what its rows are called.
        kind: which part of the comparison it belongs to.
        engine: what computes the networks.
        start: starts it, and ends it.
        in_flight: requests under way at a time, or the batch sizes of a limit.
        short: measured on a quarter of the slices, being slow.
        is_checked: its masks are to be those of the others.
        networks: a name for the networks and how they are rounded; systems in which it is the same find the same.
    """

    name: str
    kind: Kind
    engine: str
    start: Callable[[], AbstractContextManager[Running]]
    in_flight: tuple[int, ...] = IN_FLIGHT
    short: bool = False
    is_checked: bool = True
    networks: str = ""

    @property
    def in_process(self) -> bool:
        """Whether it is given batches, and has no server to send requests to."""
        return self.name.startswith(IN_PROCESS)


@dataclass(frozen=True)
class Workshop:
    """What systems are made of.

    Attributes:
        repository: gliogate's model repository.
        networks: those that it serves.
        folder: where files of the benchmark go.
    """

    repository: Path
    networks: Networks
    folder: Path

    def systems(self) -> list[System]:
        """All of them, in the order in which they are measured."""
        systems = [*self.limits(), *self.own(), *self.peers()]
        return [replace(system, networks=self._rounded(system.engine)) for system in systems]

    def _rounded(self, engine: str) -> str:
        """`System.networks`: their file, and what an engine makes of it that rounds in a way of its own."""
        file = Path(networks_of(self.repository, engine).detector).name
        return f"{file}, {engine}" if engine in ("onnxruntime int8", "openvino bf16") else file

    def limits(self) -> list[System]:
        """The engines in one process."""
        return [
            *(
                System(f"{IN_PROCESS}, {engine}", "limit", engine, partial(self._limit, engine), BATCHES)
                for engine in (OURS, DOCUMENTED)
            ),
            *(
                System(f"{IN_PROCESS}, {engine}", "tried", engine, partial(self._limit, engine), BATCHES)
                for engine in TRIED
            ),
            System(f"{IN_PROCESS}, one fused ONNX graph", "tried", OURS, self._fused_limit, BATCHES),
        ]

    def own(self) -> list[System]:
        """What gliogate serves."""
        served = partial(self._triton, lambda: self.repository)
        fused = partial(self._triton, lambda: build_fused(self.repository, self.folder / "fused", self.networks))
        plain = partial(clients.mlserver, networks=self.networks)
        return [
            System("gliogate, SDK", "gliogate", OURS, partial(served, clients.sdk)),
            System("gliogate, tritonclient", "gliogate", OURS, partial(served, clients.bare)),
            System("gliogate, gate=always", "always", OURS, partial(served, partial(clients.bare, gate="always"))),
            System("Triton, one fused ONNX graph", "tried", OURS, partial(fused, plain)),
        ]

    def peers(self) -> list[System]:
        """What people do today."""
        calls = partial(clients.two_calls, networks=self.networks)
        both = partial(clients.always_both, networks=self.networks)
        ensemble = partial(self._triton, lambda: build_plain_ensemble(self.repository, self.folder / "plain_ensemble"))
        batching = partial(
            self._triton, lambda: build_batching_networks(self.repository, self.folder / "batching_networks")
        )
        systems = [
            System("Triton, two calls", "peer", OURS, partial(batching, calls)),
            System("Triton, plain ensemble", "peer", OURS, partial(ensemble, both)),
        ]
        for name, (peer, command, client) in self._servers().items():
            systems += [
                System(name, "peer", engine, partial(self._server, peer, engine, command, client))
                for engine in (DOCUMENTED, OURS)
            ]
        return [*systems, System("Keras predict, notebook", "peer", "keras", self._notebook, (1,), True, False)]

    def _servers(self) -> dict[str, tuple[str, Callable[[Path, int], list[Any]], Callable[[str], Any]]]:
        """By name: the folder in `peers`, the command for a port, and the client."""
        http = partial(clients.http, networks=self.networks)
        arguments = ["--host", "127.0.0.1", "--log-level", "warning", "--port"]
        return {
            "FastAPI": (
                "fastapi",
                lambda python, port: [python, "-m", "uvicorn", "benchmarks.peers.fastapi.server:app", *arguments, port],
                http,
            ),
            "LitServe": (
                "litserve",
                lambda python, port: [python, "-m", "benchmarks.peers.litserve.server", port],
                partial(http, form=True),
            ),
            "BentoML": (
                "bentoml",
                lambda python, port: [
                    *(python, "-m", "bentoml", "serve", "benchmarks.peers.bentoml.server:Analysis"),
                    *("--host", "127.0.0.1", "--port", port),
                ],
                http,
            ),
            "Ray Serve": (
                "ray_serve",
                lambda python, port: [python, "-m", "benchmarks.peers.ray_serve.server", port],
                http,
            ),
            "MLServer": (
                "mlserver",
                lambda python, port: [
                    *(python, "-m", "benchmarks.peers.mlserver.server"),
                    *(port, free_port(), free_port()),
                ],
                partial(clients.mlserver, networks=self.networks),
            ),
        }

    @contextmanager
    def _server(
        self,
        peer: str,
        engine: str,
        command: Callable[[Path, int], list[Any]],
        client: Callable[[str], AbstractContextManager[Asked]],
    ) -> Iterator[Running]:
        python, port = python_of(peer, self.folder / "envs"), free_port()
        url = f"127.0.0.1:{port}"
        process = Process(
            command(python, port),
            log=self.folder / "logs" / f"{peer}-{engine}.log",
            environment=self._environment(engine),
            is_ready=lambda: _accepts(client, url),
        )
        with process, client(url) as ask:
            yield Running(process, ask)

    @contextmanager
    def serve(self, repository: Path) -> Iterator[tuple[Process, str]]:
        """`gliogate serve` on a model repository; yields it and its gRPC address."""
        ports = {f"--{name}-port": free_port() for name in ("grpc", "http", "metrics")}
        arguments = [str(part) for pair in ports.items() for part in pair]
        process = Process(
            [own_python().with_name("gliogate"), "serve", "--model-repository", repository, *arguments],
            log=self.folder / "logs" / "triton.log",
            is_ready=lambda: _is_served(ports["--http-port"], ports["--metrics-port"]),
        )
        with process:
            yield process, f"127.0.0.1:{ports['--grpc-port']}"

    @contextmanager
    def _triton(
        self, repository: Callable[[], Path], client: Callable[[str], AbstractContextManager[Asked]]
    ) -> Iterator[Running]:
        with self.serve(repository()) as (process, url), client(url) as ask:
            yield Running(process, ask)

    @contextmanager
    def _limit(self, engine: str) -> Iterator[Running]:
        with self._worker(own_python(), "benchmarks.limit", engine) as process, _asked(process) as ask:
            yield Running(process, ask)

    @contextmanager
    def _fused_limit(self) -> Iterator[Running]:
        repository = build_fused(self.repository, self.folder / "fused", self.networks)
        arguments: list[str | Path] = ["--fused", repository / ENSEMBLE.name / "1" / "model.onnx"]
        with self._worker(own_python(), "benchmarks.limit", OURS, *arguments) as process, _asked(process) as ask:
            yield Running(process, ask)

    @contextmanager
    def _notebook(self) -> Iterator[Running]:
        detect = open_network(self.networks.detector, DOCUMENTED)

        def opened(images: Images) -> dict[str, Any]:
            [probability] = detect(images)
            return {"opened": (probability[:, 0] >= np.float32(self.networks.detection_threshold)).tolist()}

        python = python_of("keras_predict", self.folder / "envs")
        # What a version was trained by lies beside it.
        version = Path(self.networks.detector).parent.name
        metadata = self.repository / ENSEMBLE.name / version / "metadata.json"
        worker = self._worker(python, "benchmarks.peers.keras_predict.notebook", "keras", metadata)
        with worker as process, _asked(process, opened) as ask:
            yield Running(process, ask)

    def _worker(self, python: Path, module: str, engine: str, *arguments: str | Path) -> Process:
        return Process(
            [python, "-m", module, *arguments],
            log=self.folder / "logs" / f"{module}.log",
            environment=self._environment(engine),
            pipes=True,
        )

    def _environment(self, engine: str) -> dict[str, str]:
        networks = self.folder / f"networks-{engine.replace(' ', '-')}.json"
        networks_of(self.repository, engine).write(networks)
        path = os.pathsep.join([str(ROOT), str(ROOT / "client"), *filter(None, [os.environ.get("PYTHONPATH")])])
        quiet = {"BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
        return quiet | {ENVIRONMENT: str(networks), "PYTHONPATH": path}


@contextmanager
def _asked(process: Process, more: Callable[[Images], dict[str, Any]] = lambda _: {}) -> Iterator[Asked]:
    """Asks a worker, which reads the slices from a file, with what else it has to know of them."""
    with tempfile.TemporaryDirectory() as folder:
        file, masks = Path(folder) / "images.npy", Path(folder) / "masks.npy"

        def ask(images: Images, in_flight: int) -> Measured:
            np.save(file, images)
            question = {"images": str(file), "batch": in_flight, "masks": str(masks)} | more(images)
            answer = process.answer(question)
            # The notebook's mean nothing, and it writes none.
            return Measured.parse(answer, np.load(masks) if masks.exists() else None)

        yield ask


def _accepts(client: Callable[[str], AbstractContextManager[Asked]], url: str) -> bool:
    """Whether a server answers about a slice, which is when it is ready for all that follows."""
    try:
        with client(url) as ask:
            ask(np.zeros((1, 256, 256, 3), np.uint8), 1)
    except Exception:  # Each client has errors of its own for a server that is not there yet.
        return False
    return True


def _is_served(http_port: int, metrics_port: int) -> bool:
    """Whether Triton has loaded every model: its metrics are the last that it opens."""
    try:
        for url in (f"http://127.0.0.1:{http_port}/v2/health/ready", f"http://127.0.0.1:{metrics_port}/metrics"):
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310  it is this machine's
                pass
    except OSError:
        return False
    return True
