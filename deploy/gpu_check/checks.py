"""What only a GPU can show, each with what it takes to be right; shortest first."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from deploy.gpu_check.server import REPOSITORY, Server
from deploy.gpu_memory import IN_ALL, INSTANCES, Assumptions, estimate, read_networks
from gliogate import Client
from gliogate.contract import DETECTOR, IMAGE, SEGMENTER, Model
from gliogate.phantom import Phantom, make_phantoms

PHANTOMS = 200
MOST_PIXELS = 0.001
"""The share of all pixels that may be on the other side of the threshold than in 32 bits."""

MOST_OFF = 0.02
"""How far a tumor probability may be off; `metadata.json` has by how much rounding to 16 bits moves it."""

LEAST_CAPABILITY = 7.5
RATE_S = 20


@dataclass
class Machine:
    """What the checks look at.

    Attributes:
        server: that runs.
        cache: where engines and kernels are kept.
        first_ready_s: how long the first start took, without any; None where this is the first.
        phantoms: made-up slices, whose masks are known.
        found: what was measured so far, by name.
    """

    server: Server
    cache: Path
    first_ready_s: float | None = None
    phantoms: list[Phantom] = field(default_factory=lambda: list(make_phantoms(PHANTOMS, prevalence=0.35, seed=22)))
    found: dict[str, object] = field(default_factory=dict)


class WrongError(Exception):
    """A check found that something is not as it has to be; says what."""


def gpu_is_one_that_triton_supports(machine: Machine) -> None:
    """The GPU has compute capability 7.5 or later; its name, its driver and whether it is a MIG slice are told."""
    told = query_gpu("name,driver_version,compute_cap,memory.total,mig.mode.current")
    machine.found["GPU"] = told
    capability = _number(told.split(",")[2])
    if capability < LEAST_CAPABILITY:
        raise WrongError(f"compute capability {capability}, Triton's images ask for {LEAST_CAPABILITY}")


def gate_works_on_the_gpu(machine: Machine) -> None:
    """The gate found CuPy, tried it when it was loaded, and left its kernels in the cache."""
    log = machine.server.log.read_text(errors="replace")
    if "go through host memory" in log:
        raise WrongError(f"the gate works in the host's memory; {machine.server.log} says why")
    kernels = [path for path in (machine.cache / "cupy").rglob("*") if path.is_file()]
    machine.found["kernels kept"] = len(kernels)
    if not kernels:
        raise WrongError(f"no kernel of CuPy's in {machine.cache / 'cupy'}: a restart compiles them again")


def each_network_is_one_engine(machine: Machine) -> None:
    """TensorRT built one engine for each network: ONNX Runtime cut nothing out, and one profile covers every batch."""
    engines = sorted(path.name for path in machine.cache.glob("*.engine"))
    machine.found["engines"] = engines
    if len(engines) != 2:
        raise WrongError(f"{len(engines)} engines for two networks: {', '.join(engines) or 'none'}")


def second_start_takes_what_the_first_left(machine: Machine) -> None:
    """The second start builds no engine: it is ready in less than half of the time, with the same files."""
    first, second = machine.first_ready_s, machine.server.ready_s
    if first is None:
        raise WrongError("this is the first start")
    machine.found["ready after, s"] = {"without engines": round(first, 1), "with them": round(second, 1)}
    engines = sorted(path.name for path in machine.cache.glob("*.engine"))
    if engines != machine.found.get("engines") or second > first / 2:
        raise WrongError(f"ready after {first:.0f} s without engines and {second:.0f} s with them; engines: {engines}")


def answers_are_those_of_32_bits(machine: Machine) -> None:
    """200 phantoms are answered as by `model.onnx` in ONNX Runtime on a CPU, but for what 16 bits round."""
    images = np.stack([phantom.image for phantom in machine.phantoms])
    probability, masks = in_32_bits(DETECTOR, images)[:, 0], in_32_bits(SEGMENTER, images)
    with Client(machine.server.url) as client:
        asked = client.analyze_many(list(images), gate="always", mask_threshold=0.5, in_flight=64, timeout_s=120)
        answers = list(asked)
    served = np.array([answer.tumor_probability for answer in answers])
    off = float(np.abs(served - probability).max())
    pixels = float(np.mean(np.stack([answer.mask for answer in answers]) != (masks >= 0.5)))
    machine.found["off 32 bits by"] = {"tumor probability": round(off, 5), "share of pixels": round(pixels, 6)}
    if off > MOST_OFF or pixels > MOST_PIXELS:
        raise WrongError(f"tumor probabilities are off by {off:.4f}, and {pixels:.2%} of the pixels differ")


def memory_is_what_was_estimated(machine: Machine) -> None:
    """After full batches, what the processes take of the GPU's memory is within the estimate of deploy.gpu_memory."""
    estimated = estimate(read_networks(REPOSITORY), INSTANCES["gpu"], Assumptions())[IN_ALL]
    used = _number(query_gpu("memory.used"))
    machine.found["memory, MiB"] = {"used on the whole GPU": round(used), "estimated": round(estimated)}
    if used > 1.25 * estimated:
        raise WrongError(f"{used:.0f} MiB are used, {estimated:.0f} were estimated, with a quarter to spare")


def rate_is_told(machine: Machine) -> None:
    """Slices per second through the gate, of which 35% show tumor, 256 in flight, for 20 s."""
    images = [phantom.image for phantom in machine.phantoms]
    begin, answered = time.monotonic(), 0
    with Client(machine.server.url) as client:
        while time.monotonic() < begin + RATE_S:
            answered += sum(1 for _ in client.analyze_many(images, in_flight=256, timeout_s=120))
    machine.found["slices per second"] = round(answered / (time.monotonic() - begin), 1)


Check = Callable[[Machine], None]

OF_THE_FIRST_START: tuple[Check, ...] = (
    gpu_is_one_that_triton_supports,
    gate_works_on_the_gpu,
    each_network_is_one_engine,
)
OF_THE_SECOND_START: tuple[Check, ...] = (
    second_start_takes_what_the_first_left,
    answers_are_those_of_32_bits,
    rate_is_told,
    memory_is_what_was_estimated,
)


def _number(told: str) -> float:
    """What `nvidia-smi` said, if it is a number: of a MIG slice, say, it may not tell."""
    try:
        return float(told)
    except ValueError:
        raise WrongError(f"nvidia-smi tells {told.strip()!r}, no number") from None


def query_gpu(fields: str) -> str:
    """What `nvidia-smi` says of the first GPU.

    Raises:
        WrongError: it cannot be asked.
    """
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise WrongError(f"{' '.join(command)}: {error}") from error


def in_32_bits(model: Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a network says of slices in full precision, on the CPU."""
    folders = (REPOSITORY / model.name).glob("[0-9]*")
    newest = max(folders, key=lambda folder: int(folder.name))
    session = onnxruntime.InferenceSession(newest / "model.onnx", providers=["CPUExecutionProvider"])
    batches = [images[start : start + 8] for start in range(0, len(images), 8)]
    return np.concatenate([session.run(None, {IMAGE.name: batch})[0] for batch in batches])
