"""The extra `loadtest` suffices: a load test leaves its page where nothing else of gliogate's extras is installed."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from support import only_installed

from loadtests.instant import instant_server
from loadtests.run import EXIT_INVALID

CHECKOUT = Path(__file__).parents[2]


def assert_it_runs(python, output):
    """Runs a load test from the checkout; a machine that is too busy for the schedule has it called invalid."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with instant_server() as port:
        words = ["single-stream", "--duration", "3", "--pool", "4", "--output", output, "--url", f"127.0.0.1:{port}"]
        command = [*python, "-m", "loadtests", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, env=own, timeout=120, check=False)
    assert done.returncode in (0, EXIT_INVALID), done.stderr
    assert "Traceback" not in done.stderr
    [stage] = json.loads((output / "report.json").read_text())["stages"]
    assert stage["figures"]["answered"] == stage["figures"]["requests"] > 0
    assert "<svg" in (output / "report.html").read_text()


def test_it_runs_where_all_else_is_refused(tmp_path):
    alone = ".[loadtest] !training !benchmarks !deploy"
    assert_it_runs([sys.executable, only_installed.__file__, alone], tmp_path)


def test_what_is_refused_is_what_this_environment_has_beyond_the_extra():
    refused = only_installed.refused([".[loadtest]"])
    assert {"keras", "onnx", "onnxruntime", "sklearn", "tensorflow"} <= refused
    assert not {"cv2", "gevent", "grpc", "jinja2", "locust", "numpy", "rich", "scipy", "tritonclient"} & refused


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs_in_an_environment_that_has_only_it(tmp_path):
    venv.create(tmp_path / "environment", with_pip=True)
    python = tmp_path / "environment" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", CHECKOUT / "constraints.txt"]
    subprocess.run([*pip, f"{CHECKOUT}[loadtest]"], check=True)
    installed = subprocess.check_output([python, "-m", "pip", "list"], text=True)
    assert "scikit-learn" not in installed
    assert_it_runs([python], tmp_path / "report")
