"""The peers' own environments, as far as they can be held without installing them."""

import ast
import json
import re

import pytest
from support.tiny_networks import newest_version

from benchmarks import environments
from benchmarks.environments import PEERS, NotInstallableError, python_of

FOLDERS = sorted(path for path in PEERS.iterdir() if (path / "requirements.txt").is_file())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_peer_pins_what_it_needs_and_names_the_page_it_follows(folder):
    requirements = (folder / "requirements.txt").read_text().split()
    assert all(re.fullmatch(r"[\w.\[\]-]+==[\d.]+", requirement) for requirement in requirements)

    for program in folder.glob("*.py"):
        docstring = ast.get_docstring(ast.parse(program.read_text()))
        assert re.search(r"Follows [\w.]+/\S+", docstring)


@pytest.mark.slow  # It builds whole networks.
def test_the_notebook_has_the_networks_that_are_served(shipped_repository):
    from benchmarks.peers.keras_predict.notebook import networks

    metadata = newest_version(shipped_repository) / "metadata.json"
    detector, segmenter = networks(metadata)

    parameters = json.loads(metadata.read_text())["cost"]["parameters"]
    assert parameters == {"detector": detector.count_params(), "segmenter": segmenter.count_params()}


def test_bentoml_writes_no_line_for_every_request():
    program = ast.parse((PEERS / "bentoml" / "server.py").read_text())
    calls = [node for node in ast.walk(program) if isinstance(node, ast.Call)]
    services = [call for call in calls if ast.unparse(call.func) == "bentoml.service"]

    assert len(services) == 2
    assert all("logging" in [keyword.arg for keyword in service.keywords] for service in services)


@pytest.fixture
def peer(tmp_path, monkeypatch):
    """A peer whose requirements the test writes; it looks into no package index."""
    monkeypatch.setattr(environments, "PEERS", tmp_path / "peers")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    requirements = tmp_path / "peers" / "mine" / "requirements.txt"
    requirements.parent.mkdir(parents=True)
    return requirements


def test_one_that_cannot_be_installed_says_why_and_is_tried_again(peer, tmp_path):
    peer.write_text("of-that-name-there-is-none==1.0\n")
    for _ in range(2):
        with pytest.raises(NotInstallableError, match="No matching distribution found for of-that-name-there-is-none"):
            python_of("mine", tmp_path / "envs")


def test_an_environment_is_made_once_for_its_requirements(peer, tmp_path):
    peer.write_text("")
    python = python_of("mine", tmp_path / "envs")
    made = python.lstat().st_ctime_ns

    assert python_of("mine", tmp_path / "envs") == python
    assert python.lstat().st_ctime_ns == made

    peer.write_text("# another\n")
    python_of("mine", tmp_path / "envs")
    assert python.lstat().st_ctime_ns > made
