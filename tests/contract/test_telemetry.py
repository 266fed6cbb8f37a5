"""ONNX Runtime tells nobody of its use: it would keep a number for this user in the home folder."""

import os
import subprocess
import sys

import pytest

OPEN = "import {package}, onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1])"


# The client, which opens none, shows what would be told otherwise.
@pytest.mark.parametrize(("package", "tells"), [("training", False), ("benchmarks", False), ("gliogate", True)])
def test_what_opens_networks_itself_turns_it_off(shipped_repository, tmp_path, package, tells):
    *_, network = shipped_repository.glob("tumor_detector/*/model.onnx")
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}

    subprocess.run(
        [sys.executable, "-c", OPEN.format(package=package), network],
        env=environment | {"HOME": str(tmp_path)},
        check=True,
        timeout=60,
    )

    assert bool(list(tmp_path.iterdir())) is tells
