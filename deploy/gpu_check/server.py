"""A Triton that serves the checkout's models on a GPU: the image of deploy/docker/Dockerfile, or one on PATH."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gliogate import Client, GliogateError

REPOSITORY = Path(__file__).parents[2] / "model_repository"
CACHE = "/var/cache/tensorrt"
"""Where configs/gpu.pbtxt has engines kept."""

CONTAINER = f"gliogate-gpu-check-{os.getpid()}"

READY_S = 1200
"""As long as the chart's startup probe allows the first start, which builds engines."""


class StartError(Exception):
    """Triton did not come up; says what its log ends with, and where that is."""


@dataclass(frozen=True)
class Server:
    """A Triton that is ready.

    Attributes:
        url: of gRPC.
        ready_s: how long it took, in seconds.
        log: the file that it writes to.
    """

    url: str
    ready_s: float
    log: Path


@contextmanager
def serving(image: str | None, folder: Path, log: Path) -> Iterator[Server]:
    """Serves the checkout's models with `--model-config-name=gpu`, with the chart's own arguments.

    Args:
        image: the server's, for docker; None runs the `tritonserver` on PATH.
        folder: where engines and kernels are kept: a second start finds them.
        log: the file that it writes to.

    Raises:
        StartError: it ended, or was not ready after `READY_S`.
    """
    cache = folder / "cache"
    cache.mkdir(exist_ok=True)
    # Free ones: a server that is here already would be ready at once, and answer in the place of this.
    grpc_port, metrics_port = _free_ports(2)
    with tempfile.TemporaryDirectory(dir=folder) as name, log.open("w") as output:
        models = _models(Path(name), cache)
        command = [*_runner(image, models, cache), *_arguments(models, grpc_port, metrics_port)]
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            url = f"localhost:{grpc_port}"
            _wait_until_ready(process, url, log)
            yield Server(url, time.monotonic() - begin, log)
        finally:
            _end(process, is_container=image is not None)


def _models(folder: Path, cache: Path) -> Path:
    """A copy of the models that keeps its engines in this cache."""
    models = Path(shutil.copytree(REPOSITORY, folder / "models"))
    for path in models.glob("*/configs/gpu*.pbtxt"):
        path.write_text(path.read_text().replace(f'"{CACHE}"', f'"{cache.absolute()}"'))
    folder.chmod(0o755)
    return models


def _runner(image: str | None, models: Path, cache: Path) -> list[str]:
    if image is None:
        return ["env", f"CUPY_CACHE_DIR={cache / 'cupy'}", "tritonserver"]
    mounts = [f"--volume={path.absolute()}:{path.absolute()}" for path in (models, cache)]
    kernels = f"--env=CUPY_CACHE_DIR={cache.absolute() / 'cupy'}"
    # One GPU, as a pod has; the image's own entrypoint runs. What it writes is to be this user's, who removes it.
    user = f"--user={os.getuid()}:{os.getgid()}"
    options = [
        "--rm",
        f"--name={CONTAINER}",
        user,
        "--gpus=device=0",
        "--network=host",
        "--shm-size=1g",
        kernels,
        *mounts,
    ]
    return ["docker", "run", *options, image, "tritonserver"]


def _arguments(models: Path, grpc_port: int, metrics_port: int) -> list[str]:
    return [
        f"--model-repository={models.absolute()}",
        "--model-config-name=gpu",
        "--disable-auto-complete-config",
        "--exit-on-error=true",
        "--strict-readiness=true",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc_port}",
        "--allow-http=false",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={metrics_port}",
    ]


def _end(process: "subprocess.Popen[bytes]", *, is_container: bool) -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        if is_container:  # It would outlive the command that started it.
            subprocess.run(["docker", "rm", "--force", CONTAINER], capture_output=True, check=False)
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    with Client(url) as client:
        while True:
            try:
                client.wait_until_ready(2)
            except GliogateError:
                pass
            else:
                return
            if process.poll() is not None:
                raise StartError(f"Triton ended with exit code {process.returncode}:\n{_end_of(log)}")
            if time.monotonic() > deadline:
                raise StartError(f"Triton was not ready after {READY_S} s:\n{_end_of(log)}")


def _end_of(log: Path) -> str:
    return "\n".join([*log.read_text(errors="replace").splitlines()[-20:], f"The whole log is {log}."])
