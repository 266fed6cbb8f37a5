"""Makes `docs/sdk.md`, the reference of the SDK, of its docstrings: `python docs/sdk.py`."""

import re
from pathlib import Path

from griffe2md import ConfigDict, render_package_docs

CHECKOUT = Path(__file__).parents[1]
PAGE = Path(__file__).with_suffix(".md")

PACKAGES = ("gliogate", "gliogate.volumes", "gliogate.testing", "gliogate.embedded")

HEAD = """\
# The SDK

Made of the docstrings by `python docs/sdk.py`. Programs to start from: [client/examples](../client/examples). The
command line: `gliogate --help`.
"""

LONG_SIGNATURE = re.compile(r"^(?=.{121})(?P<name>\w+)\((?P<parameters>.*)\)$", re.MULTILINE)

CONFIG = ConfigDict(
    docstring_section_style="list",
    heading_level=2,
    search_paths=[str(CHECKOUT / "client")],
    separate_signature=True,
    show_bases=False,
    show_if_no_docstring=False,
    show_object_full_path=False,
    show_submodules=False,
    summary=False,
)


def render() -> str:
    """The page."""
    chapters = {name: render_package_docs(name, _config_of(name)) for name in PACKAGES}
    # The errors are in the first chapter: what is left of theirs is the tree.
    tree, _, _ = render_package_docs("gliogate.errors", CONFIG).partition("\n### ")
    page = _without_links("\n".join([HEAD, *chapters.values(), tree.rstrip() + "\n"]))
    return LONG_SIGNATURE.sub(_in_lines, page)


def _config_of(package: str) -> ConfigDict:
    # What the clients for tests inherit is said of the clients.
    return ConfigDict({**CONFIG, "inherited_members": package != "gliogate.testing"})


def _in_lines(signature: re.Match[str]) -> str:
    """A signature with a line for each parameter, as Ruff wants those that are too long for one."""
    # Not at the commas of a default value.
    parameters = re.split(r", (?![^(\[]*[)\]])", signature["parameters"])
    return "\n".join([f"{signature['name']}(", *(f"    {each}," for each in parameters), ")"])


def _without_links(page: str) -> str:
    """Leaves out links to the types of others, which the page does not describe."""
    page = re.sub(r"\[([^\[\]]*)\]\(#[^)]*\)", r"\1", page)
    return re.sub(r"<code>(.*?)</code>", r"`\1`", page)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
