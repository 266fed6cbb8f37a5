"""What is in the wheel and in the source distribution, and what is not."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from gliogate import contract
from hatch_build import models_for_cpu

CHECKOUT = Path(__file__).parents[2]
MODELS = CHECKOUT / "model_repository"
LIMIT_BYTES = 10_000_000


@pytest.fixture(scope="module")
def contents(wheel):
    """Each file of the wheel by its name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def newest(model):
    return max(int(folder.name) for folder in (MODELS / model.name).iterdir() if folder.name.isdecimal())


def test_the_wheel_holds_the_package_and_the_newest_models_for_a_cpu(wheel, contents):
    package = CHECKOUT / "client" / "gliogate"
    code = {
        f"gliogate/{path.relative_to(package)}"
        for path in package.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    gates = [MODELS / model.name / str(newest(model)) for model in (contract.ENSEMBLE, contract.VOLUME)]
    models = {
        *("LICENSE", "MODEL_CARD.md"),
        *(f"{model.name}/config.pbtxt" for model in contract.MODELS),
        *(f"{model.name}/{newest(model)}/model_cpu.onnx" for model in (contract.DETECTOR, contract.SEGMENTER)),
        *(
            str(path.relative_to(MODELS))
            for gate in gates
            for path in gate.iterdir()
            # What was counted of each patient is for readers, not for servers.
            if path.is_file() and path.name != "patients.json"
        ),
    }

    held = {name for name in contents if ".dist-info/" not in name}

    assert held == code | {f"gliogate/model_repository/{name}" for name in models}
    assert all(contents[f"gliogate/model_repository/{name}"] == (MODELS / name).read_bytes() for name in models)
    assert wheel.stat().st_size < LIMIT_BYTES


def test_the_metadata_name_both_licenses_and_hold_their_texts(contents):
    (name,) = (name for name in contents if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(contents[name])

    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-NC-SA-4.0"
    texts = [contents[f"{Path(name).parent}/licenses/{path}"].decode() for path in metadata.get_all("License-File")]
    assert texts == [(CHECKOUT / path).read_text() for path in ("LICENSE", "model_repository/LICENSE")]
    assert re.findall("SPDX-License-Identifier: (.*)", texts[1]) == ["CC-BY-NC-SA-4.0"]


def test_the_source_distribution_holds_what_the_wheel_is_made_of_and_nothing_else(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = [Path(*Path(name).parts[1:]) for name in archive.getnames()]

    documents = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md"}
    build = {"hatch_build.py", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert {name.parts[0] for name in names} == {"client", "model_repository", *documents, *build}
    assert {name for name in names if name.parts[0] == "model_repository"} == {
        Path("model_repository", name) for name in models_for_cpu(MODELS)
    }
    assert path.stat().st_size < LIMIT_BYTES


def test_a_wheel_of_the_checkout_is_that_of_the_source_distribution(wheel, tmp_path):
    """`make dist` builds the wheel from the source distribution."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, CHECKOUT]
    subprocess.run(build, check=True, capture_output=True)

    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_of_several_versions_the_newest_is_taken(tmp_path):
    for version in ("9", "10"):
        for name in ("model.onnx", "model_cpu.onnx", "model_gpu.onnx"):
            (tmp_path / "tumor_detector" / version).mkdir(parents=True, exist_ok=True)
            (tmp_path / "tumor_detector" / version / name).write_bytes(b"")
    (tmp_path / "tumor_detector" / "config.pbtxt").write_text("")

    held = {str(path) for path in models_for_cpu(tmp_path)}

    assert {name for name in held if "/" in name} == {
        "tumor_detector/config.pbtxt",
        "tumor_detector/10/model_cpu.onnx",
    }


def test_a_build_without_models_fails_unless_it_is_asked_for(tmp_path):
    """As the image of the client asks, which has none."""
    for name in ("LICENSE", "README.md", "hatch_build.py", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, tmp_path)
    shutil.copytree(CHECKOUT / "client", tmp_path / "client", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", tmp_path]

    refused = subprocess.run(build, capture_output=True, text=True, check=False)
    (tmp_path / "hatch_build.py").unlink()  # The image has no use for it.
    environment = os.environ | {"HATCH_BUILD_NO_HOOKS": "true"}
    subprocess.run(build, env=environment, capture_output=True, check=True)

    assert "model_repository has no models" in refused.stdout + refused.stderr
    (built,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        assert [name for name in archive.namelist() if "/model_repository/" in name.partition(".dist-info")[0]] == []
    assert "HATCH_BUILD_NO_HOOKS=true" in (CHECKOUT / "deploy" / "docker" / "Dockerfile").read_text()
