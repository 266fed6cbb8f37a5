"""What a run was made with and on, so that its figures can be understood later."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from gliogate import processor

PACKAGES: Final = ("gliogate", "locust", "gevent", "grpcio", "tritonclient", "numpy")


def environment() -> dict[str, Any]:
    """JSON-safe: when and how it was called, commit, versions, machine."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [*_program(), *sys.argv[1:]],
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {package: metadata.version(package) for package in PACKAGES},
        "cpu": processor.name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
    }


def _program() -> list[str]:
    """How it was called: `locust`, or `python -m loadtests`, of which Python keeps only the file."""
    path = Path(sys.argv[0])
    return ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:  # There is no git in a pod.
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
