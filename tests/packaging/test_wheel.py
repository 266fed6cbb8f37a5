"""The wheel in an environment of its own, far from the checkout: the demo, an analysis, a server, the doctor.

Here it is the wheel alone that is installed, and what it depends on is what the tests have. `test_index.py` installs
everything.
"""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from support.environments import Environment

from gliogate import Client
from gliogate.phantom import make_phantom

CHECKOUT = Path(__file__).parents[2]
ANY_PORTS = ("--grpc-port", "0", "--http-port", "0", "--metrics-port", "0")


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    environment = Environment(tmp_path_factory.mktemp("environment") / "venv", with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", environment.python]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", wheel], check=True)
    # Only now, or pip would find the tests' gliogate there. A path in a `.pth` file has its own ones ignored, those of
    # editable installs among them.
    theirs = [path for path in sys.path if Path(path).name == "site-packages"]
    (environment.packages / "dependencies.pth").write_text("\n".join(theirs) + "\n")
    return environment


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where nothing is of gliogate's."""
    return tmp_path_factory.mktemp("folder")


@pytest.fixture(scope="module")
def models(environment):
    return environment.packages / "gliogate" / "model_repository"


def state(models):
    """Each file and folder there, and when it was changed."""
    return {path: path.stat().st_mtime_ns for path in models.rglob("*")}


def test_it_is_the_wheel_that_runs(environment, folder):
    told = "import sys, gliogate, json; print(json.dumps([gliogate.__file__, *sys.path]))"

    package, *paths = json.loads(environment.run("python", "-c", told, cwd=folder).stdout)

    assert Path(package).is_relative_to(environment.packages)
    assert [path for path in paths if path and (Path(path) / "gliogate").is_dir()] == [str(environment.packages)]


def test_demo_and_analyze_serve_its_models_and_leave_them_as_they_are(environment, folder, models):
    before = state(models)

    demo = environment.run("gliogate", "demo", cwd=folder)
    scan = next(path for path in (folder / "build/demo/scans").glob("*.png") if "mask" not in path.name)
    analyze = environment.run("gliogate", "analyze", scan, "--json", "-", cwd=folder)

    assert re.search(r"^12 scans, \d+ with tumor, .*mean Dice", demo.stdout, re.MULTILINE)
    assert (folder / "build" / "demo" / "index.html").is_file()
    assert 0 <= json.loads(analyze.stdout)["tumor_probability"] <= 1
    assert state(models) == before


def test_serve_answers_until_ctrl_c_and_the_doctor_finds_all_well(environment, folder, models):
    with subprocess.Popen(
        [environment.python.with_name("gliogate"), "serve", *ANY_PORTS],
        cwd=folder,
        env=environment.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as serving:
        try:
            url, http_url = re.match(r"gliogate is ready: gRPC (\S+), HTTP (\S+),", serving.stdout.readline()).groups()
            with urllib.request.urlopen(f"{http_url}/v2/models/brain_tumor/ready") as ready:
                assert ready.status == 200
            with Client(url) as client:
                assert client.analyze(make_phantom(7, tumor=True).image).segmented
            doctor = environment.run("gliogate", "doctor", "--url", url, cwd=folder).stdout
            serving.send_signal(signal.SIGINT)
            output, errors = serving.communicate(timeout=30)
        finally:
            serving.kill()

    assert (serving.returncode, output, errors) == (130, "", "")
    assert re.search(rf"^ok +models +the wheel's, version \d+, for CPUs only: {models}$", doctor, re.MULTILINE)
    assert re.search(rf"^ok +server {url} Triton ", doctor, re.MULTILINE)


def test_what_comes_with_a_checkout_only_is_said_to(environment, folder, models):
    serve = ("gliogate", "serve", "--model-config-name", "fp32", *ANY_PORTS)

    refused = environment.run(*serve, cwd=folder, code=1)
    (folder / "model_repository").symlink_to(CHECKOUT / "model_repository")
    doctor = environment.run("gliogate", "doctor", cwd=folder).stdout
    (folder / "model_repository").unlink()

    assert re.fullmatch(r"gliogate: error: .* configs/fp32\.pbtxt; a checkout .* --model-repository\n", refused.stderr)
    assert "the current folder's, version " in doctor
    assert str(models) not in doctor
