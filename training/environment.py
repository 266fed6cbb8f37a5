"""What a run was made with and on, so that its figures can be understood later."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import keras

from gliogate import processor

PACKAGES = (
    "gliogate",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "numpy",
    "opencv-python-headless",
    "onnx",
    "tf2onnx",
)


def environment() -> dict[str, object]:
    """JSON-safe: when and how it was called, commit, versions, backend, machine."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", "-m", "training", *sys.argv[1:]],
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": versions,
        "backend": keras.backend.backend(),
        "accelerators": [str(device) for device in keras.distribution.list_devices() if not device.startswith("cpu")],
        "cpu": processor.name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
    }


def _commit() -> str | None:
    """The checkout's, marked where files were changed; None outside of one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None if result.returncode == 0 else None
