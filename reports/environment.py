"""What figures were made with and on, so that they can be understood later."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from gliogate import processor


def environment(packages: Iterable[str]) -> dict[str, Any]:
    """JSON-safe: when and how it was called, commit, versions, machine.

    Args:
        packages: distributions to give the versions of; those that are not installed are left out.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [*_program(), *sys.argv[1:]],
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": dict(_versions(packages)),
        "cpu": processor.name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
    }


def _versions(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    for package in packages:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue


def _program() -> list[str]:
    """How it was called: a program, or `python -m room`, of which Python keeps only the file."""
    path = Path(sys.argv[0])
    return ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]


def _commit() -> str | None:
    """The checkout's, marked where files were changed; None outside of one, and where there is no git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
