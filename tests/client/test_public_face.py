"""`import gliogate` brings what `__all__` says, and nothing heavy."""

import subprocess
import sys

import pytest

import gliogate


def test_all_is_sorted_and_true():
    assert gliogate.__all__ == sorted(gliogate.__all__, key=lambda name: (not name.isupper(), name))
    public = {name for name, value in vars(gliogate).items() if not name.startswith("_") and hasattr(value, "__name__")}
    modules = {name for name, value in vars(gliogate).items() if type(value).__name__ == "module"}
    assert public - modules == set(gliogate.__all__) - {"Picture"}


LIBRARIES = (
    "highdicom",
    "keras",
    "nibabel",
    "onnx",
    "onnxruntime",
    "pydicom",
    "pytriton",
    "rich",
    "shtab",
    "tensorflow",
)
ROOMS = ("gliogate.cli", "gliogate.embedded", "gliogate.runs", "gliogate.volumes")


@pytest.mark.parametrize(
    ("module", "heavy"), [("gliogate", (*LIBRARIES, *ROOMS)), ("gliogate.volumes.writing", (*LIBRARIES, *ROOMS[:-1]))]
)
def test_importing_loads_nothing_heavy(module, heavy):
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "[]"
