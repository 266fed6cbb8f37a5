"""The wheel and the source distribution of this checkout, built once."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    """What `make dist` leaves in `dist/`, in another folder of that name."""
    folder = tmp_path_factory.mktemp("built") / "dist"
    # What it installs first is installed where these tests run.
    installed = "--old-file=.venv/.building"
    arguments = [f"BIN={Path(sys.executable).parent}", f"DIST={folder}"]
    done = subprocess.run(
        ["make", installed, "dist", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(dist):
    (path,) = dist.glob("*.whl")
    return path
