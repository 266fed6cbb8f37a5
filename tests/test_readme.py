"""What the README shows is run, and what it says of the wire is what is served."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.readmes import blocks, commands

from gliogate import contract
from gliogate.installed import EXTRAS
from gliogate.phantom import make_phantoms

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text()


def test_the_wheel_that_it_installs_is_the_one_that_is_made():
    (install,) = commands(README, "pip install")
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert install[2] == f"dist/gliogate-{project['version']}-py3-none-any.whl[embedded]"
    (table,) = re.findall(r"^\| extra \|.*\n\|[-|]*\n((?:\|.*\n)+)", README, re.MULTILINE)
    extras = re.findall(r"`([\w-]+)`", "".join(row.split("|")[1] for row in table.splitlines()))
    assert len(extras) >= len(EXTRAS)
    assert set(EXTRAS) <= set(extras) <= project["optional-dependencies"].keys()


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """A working folder with the files that the README's examples name."""
    (tmp_path / "scans").mkdir()
    (tmp_path / "build").mkdir()
    for phantom in make_phantoms(3, prevalence=0.5, seed=5):
        cv2.imwrite(str(tmp_path / "scans" / f"{phantom.name}.png"), phantom.image[..., ::-1])
        cv2.imwrite(str(tmp_path / "slice.tif"), phantom.image[..., ::-1])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_kind_of_command_in_it_is_run_here_or_by_ci():
    lines = [line for block in blocks(README, "bash") for line in block.splitlines() if line]
    # The installation is run by tests/packaging.
    known = ("make ", "pip install", "gliogate demo", "gliogate serve", "gliogate analyze", "gliogate cohort")
    known += ("python -m training", "python -c", "curl ")
    assert [line for line in lines if not line.startswith(known)] == []


def test_ci_runs_its_two_commands():
    ci = (CHECKOUT / ".ci" / "run").read_text()
    told = [command[:2] for command in commands(README, "make")]
    assert told == [["make", "dist"], ["make", "demo"], ["make", "test"]]
    assert {"make demo", "make test"} <= set(ci.splitlines())


def test_the_python_example_runs(scans, shipped_server):
    (example,) = blocks(README, "python")
    code = example.replace("localhost:8001", shipped_server.url)

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=scans)

    assert re.match(r"(no )?tumor 0\.\d+|1\.0", result.stdout)
    assert len([line for line in example.splitlines() if line]) <= 10


def test_the_shell_examples_run(scans, shipped_server, shipped_repository):
    analyze = commands(README, "gliogate analyze")
    assert len(analyze) == 2
    for command in analyze:
        words = [shipped_server.url if word == "localhost:8001" else word for word in command]
        if "--url" not in words:
            words += ["--model-repository", str(shipped_repository)]
        subprocess.run([Path(sys.executable).with_name("gliogate"), *words[1:]], check=True, cwd=scans)

    records = [json.loads(line) for line in (scans / "build" / "out.jsonl").read_text().splitlines()]
    assert len(records) == 3
    assert all(Path(record["mask"]).is_file() for record in records)


def test_the_cohort_example_runs(scans, shipped_server, monkeypatch):
    (command,) = commands(README, "gliogate cohort")
    (scans / "studies").mkdir()
    np.save(scans / "studies" / "head.npy", [phantom.image for phantom in make_phantoms(2, prevalence=0.5, seed=5)])
    monkeypatch.setenv("GLIOGATE_URL", shipped_server.url)
    subprocess.run([Path(sys.executable).with_name("gliogate"), *command[1:]], check=True, cwd=scans)

    assert len((scans / "build" / "cohort" / "cohort.csv").read_text().splitlines()) == 2


def test_the_curl_example_gets_an_answer(scans, shipped_server):
    (make_request,) = [line for line in README.splitlines() if line.startswith("python -c")]
    (ask,) = [line for line in README.splitlines() if line.startswith("curl")]
    address = shipped_server.http_url.removeprefix("http://")
    subprocess.run(make_request.replace("python", sys.executable, 1), shell=True, check=True, cwd=scans)  # noqa: S602

    answer = subprocess.run(  # noqa: S602
        ask.replace("localhost:8000", address), shell=True, check=True, cwd=scans, capture_output=True, text=True
    )

    outputs = {output["name"]: output["data"] for output in json.loads(answer.stdout)["outputs"]}
    assert outputs["segmented"] == [False]
    assert 0 <= outputs["tumor_probability"][0] < 0.5


def test_the_wire_contract_s_table_is_the_contract():
    rows = re.findall(r"^\| (\S+) \| (in|out) `(\w+)` \| (\w+) \| ([-\d, ]+) \|", README, re.MULTILINE)
    told = {
        (model.strip("`"), direction, contract.Tensor(name, dtype, tuple(map(int, shape.split(",")))))
        for model, direction, name, dtype, shape in rows
    }
    served = {(model.name, "out", tensor) for model in contract.NEEDED for tensor in model.outputs}
    of_heads = {(contract.VOLUME.name, "in", tensor) for tensor in contract.VOLUME.inputs}
    assert told == served | {("all", "in", contract.IMAGE)} | of_heads
    assert all(tensors == (contract.IMAGE,) for tensors in (model.inputs for model in contract.NEEDED))
    # The README says that these are the same, with the slices first.
    assert contract.VOLUME.outputs == tuple(
        tensor._replace(shape=(contract.SLICES, *tensor.shape)) for tensor in contract.ENSEMBLE.outputs
    )
    assert f"up to {contract.MOST_SLICES}" in README
    parameters = (*contract.PARAMETERS, contract.CONTEXT_BEFORE, contract.CONTEXT_AFTER)
    assert all(f"`{parameter}`" in README for parameter in parameters)
    assert all(f"`{mode}`" in README for mode in contract.GATE_MODES)
