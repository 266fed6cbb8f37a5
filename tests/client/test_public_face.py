import subprocess
import sys

import gliogate


def test_all_is_sorted_and_true():
    assert gliogate.__all__ == sorted(gliogate.__all__, key=lambda name: (not name.isupper(), name))
    public = {name for name, value in vars(gliogate).items() if not name.startswith("_") and hasattr(value, "__name__")}
    modules = {name for name, value in vars(gliogate).items() if type(value).__name__ == "module"}
    assert public - modules == set(gliogate.__all__) - {"Picture"}


def test_importing_loads_nothing_heavy():
    heavy = (
        "tensorflow",
        "keras",
        "onnx",
        "onnxruntime",
        "pytriton",
        "rich",
        "gliogate.embedded",
    )
    code = f"import sys, gliogate; print([name for name in {heavy} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "[]"
