"""The reference of the SDK is what its docstrings say, of every public name."""

import importlib
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "sdk.md").read_text()


def test_the_page_is_what_the_docstrings_say():
    assert runpy.run_path(str(DOCS / "sdk.py"))["render"]() == PAGE, "out of date: run `python docs/sdk.py`"


@pytest.mark.parametrize("package", ["gliogate", "gliogate.volumes", "gliogate.testing", "gliogate.embedded"])
def test_every_public_name_is_in_it(package):
    names = importlib.import_module(package).__all__

    assert names == sorted(names, key=lambda name: (not name.isupper(), name))
    assert [name for name in names if f"\n### `{package}.{name}`\n" not in PAGE] == []
