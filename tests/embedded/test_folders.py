"""Folders of any name serve: Triton is told of harmless paths only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
import sys
import numpy as np
from gliogate import Client
from gliogate.embedded import EmbeddedServer

with EmbeddedServer(sys.argv[1]) as server, Client(server.url) as client:
    print(client.detect(np.zeros((256, 256), np.uint8)).verdict)
"""


@pytest.mark.parametrize("name", ["with a space", "müller", "$(touch ran)", "'quotes\";&|", "two\nlines", "-x"])
def test_a_folder_of_any_name_serves(tiny_repository, tmp_path, name):
    """Of the repository, of temporary files, and of the environment that gliogate is installed in."""
    folder = tmp_path / name
    (folder / "temporary").mkdir(parents=True)
    (folder / "models").symlink_to(tiny_repository)
    (folder / "environment").symlink_to(sys.prefix)
    python = folder / "environment" / "bin" / "python"
    # A locale of ASCII alone is the hardest.
    environment = os.environ | {"TMPDIR": str(folder / "temporary"), "LC_ALL": "C"}

    run = subprocess.run(
        [python, "-c", ASK, folder / "models"], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )

    assert (run.returncode, run.stdout, run.stderr) == (0, "no tumor\n", "")
    assert not list(tmp_path.rglob("ran"))
    assert list((folder / "temporary").iterdir()) == []
    assert not Path("ran").exists()
