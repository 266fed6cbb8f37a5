"""The types that users see, as their own checkers see them."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "client"

PACKAGES = ("gliogate", "gliogate.embedded", "gliogate.testing", "gliogate.volumes")

PROGRAM = """
import asyncio

import numpy as np

from gliogate import TLS, Analysis, AsyncClient, BoundingBox, Client, GliogateError, Options, Retries
from gliogate.contract import Verdict
from gliogate.testing import FakeClient
from gliogate.volumes import VolumeAnalysis, read_volume


def show(analysis: Analysis) -> tuple[float, bool | None, BoundingBox | None]:
    assert analysis.mask.dtype == np.uint8
    return analysis.tumor_probability, analysis.tumor, analysis.bounding_box


with Client("localhost:8001", tls=TLS(), token="t", retries=Retries(attempts=2)) as client:
    show(client.analyze("slice.tif", gate="always", mask_threshold=0.5))
    options: Options = {"timeout_s": 2.0}
    show(client.with_options(**options).analyze(np.zeros((8, 8)), request_id="a"))
    for analysis in client.analyze_many(["a.png"], in_flight=2):
        show(analysis)
    for result in client.analyze_many(["a.png"], on_error="return"):
        error: str | None = str(result) if isinstance(result, GliogateError) else None
    for index, analysis in client.analyze_many(["a.png"], ordered=False):
        show(analysis)
        place: int = index
    found: VolumeAnalysis = client.analyze_volume(read_volume("study"), min_component_ml=0.1)
    found.save_nifti("mask.nii.gz")
    verdict: Verdict = found.verdict
    detected: bool = client.detect("slice.tif").detected
    millilitres: float | None = found.tumor_volume_ml


async def ask() -> None:
    async with AsyncClient() as other:
        show(await other.analyze("slice.tif"))
        async for analysis in other.analyze_many(["a.png"]):
            show(analysis)


asyncio.run(ask())
fake: Client = FakeClient(failures=[None])
"""

WRONG = """
from gliogate import Client

client = Client(url=1)
client.analyze("slice.tif", gate="ajar")
client.analyze("slice.tif", threshold=0.5)
client.detect("slice.tif").mask
"""


def pyright(*arguments: object, folder: Path) -> dict:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(CLIENT)}
    told = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return json.loads(told.stdout)


def mypy(file: Path) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", file.name]
    environment = os.environ | {"MYPYPATH": str(CLIENT)}
    told = subprocess.run(command, cwd=file.parent, env=environment, capture_output=True, text=True, check=False)
    return told.stdout


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "wrong.py").write_text(WRONG)
    return tmp_path


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="pyright runs on Node.js, and there is none")


@needs_node
def test_pyright_knows_the_type_of_all_that_is_public(folder):
    told = pyright("--verifytypes", "gliogate", "--ignoreexternal", folder=folder)["typeCompleteness"]

    public = {
        f"{value.__module__}.{value.__qualname__}"
        for package in map(importlib.import_module, PACKAGES)
        for value in (getattr(package, name) for name in package.__all__)
        if hasattr(value, "__qualname__")  # All but unions.
    }
    known = {symbol["name"]: symbol["isTypeKnown"] for symbol in told["symbols"]}
    assert [name for name in public if not known[name]] == []
    members = [name for name, is_known in known.items() if not is_known and name.rpartition(".")[0] in public]
    assert members == []


@needs_node
def test_a_users_program_is_clean_and_a_wrong_one_is_not(folder):
    told = pyright("program.py", "wrong.py", folder=folder)["generalDiagnostics"]

    places = [(Path(each["file"]).name, each["range"]["start"]["line"]) for each in told]
    assert [each for each in told if "program.py" in each["file"]] == []
    assert {line for file, line in places if file == "wrong.py"} >= {3, 4, 5, 6}


def test_and_so_it_is_for_mypy(folder):
    assert [line for line in mypy(folder / "program.py").splitlines() if line.startswith("program.py")] == []
    wrong = mypy(folder / "wrong.py").splitlines()
    assert {int(line.split(":")[1]) for line in wrong if line.startswith("wrong.py")} >= {4, 5, 6, 7}
