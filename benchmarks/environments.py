"""A virtual environment for every peer, made once: what one needs is never what another must do with."""

import subprocess
import sys
import venv
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
INSTALL_TIMEOUT_S = 1800


class NotInstallableError(Exception):
    """A peer's requirements cannot be installed here; the message has the reason that pip gives."""


def python_of(peer: str, folder: Path) -> Path:
    """The Python of a peer's environment, which is made first where it is not there or its requirements have changed.

    Args:
        peer: a folder of `benchmarks/peers`.
        folder: holds the environments.

    Raises:
        NotInstallableError: pip says no.
    """
    requirements = PEERS / peer / "requirements.txt"
    environment, stamp = folder / peer, folder / f"{peer}.txt"
    python = environment / "bin" / "python"
    if not stamp.is_file() or stamp.read_text() != requirements.read_text():
        stamp.unlink(missing_ok=True)
        venv.create(environment, with_pip=False, clear=True)
        _pip(python, "install", "--requirement", str(requirements))
        # Written last: an environment that was interrupted is made again.
        stamp.write_text(requirements.read_text())
    return python


def _pip(python: Path, *arguments: str) -> None:
    # The pip that is here installs there: one of its own for each takes longer than what is installed.
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    command = [*pip, "--quiet", "--disable-pip-version-check", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise NotInstallableError(f"pip was not done after {INSTALL_TIMEOUT_S} s") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise NotInstallableError((errors or done.stderr.splitlines() or ["pip failed"])[-1])


def own_python() -> Path:
    """The Python that runs the benchmark, with gliogate in it."""
    return Path(sys.executable)
