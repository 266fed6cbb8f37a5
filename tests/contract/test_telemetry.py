"""ONNX Runtime tells nobody of its use: it would keep a number for this user in the home folder."""

import os
import subprocess
import sys

import pytest

OPEN = "import {package}, onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1])"


@pytest.mark.parametrize("package", ["training", "benchmarks"])
def test_what_opens_networks_itself_turns_it_off(shipped_repository, tmp_path, package):
    *_, network = shipped_repository.glob("tumor_detector/*/model.onnx")

    subprocess.run(
        [sys.executable, "-c", OPEN.format(package=package), network],
        # Nothing else of this environment: in a CI, ONNX Runtime is quiet by itself.
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        check=True,
        timeout=60,
    )

    assert list(tmp_path.iterdir()) == []
