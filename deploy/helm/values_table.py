"""Writes the table of values in the chart's README from values.yaml and the comments in it.

    python deploy/helm/values_table.py

A comment describes the line below it. A map whose keys have comments of their own is a section; what has none is a
default that is shown whole.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CHART = Path(__file__).parent / "gliogate"
_KEY = re.compile(r"^( *)([A-Za-z0-9_.]+):")
_BEGIN, _END = "<!-- values -->\n", "<!-- /values -->\n"
_LONGEST = 60


class Value(NamedTuple):
    """One line of the table."""

    path: str
    default: Any
    description: str


def read_comments(text: str) -> dict[str, str]:
    """Returns the comment above each key of a values.yaml, by the key's path; a key without one is left out."""
    comments = {}
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip("# "))
        elif key := _KEY.match(line):
            path = [*path[: len(key[1]) // 2], key[2]]
            if comment:
                comments[".".join(path)] = " ".join(comment)
            comment = []
        else:
            comment = []
    return comments


def read_values(text: str) -> list[Value]:
    """Returns the values that a user may set, in order: leaves, and maps that are described as a whole."""
    comments = read_comments(text)

    def walk(value: Any, path: str) -> Iterator[Value]:
        prefix = f"{path}." if path else ""
        if isinstance(value, dict) and any(f"{prefix}{key}" in comments for key in value):
            for key, child in value.items():
                yield from walk(child, f"{prefix}{key}")
        else:
            yield Value(path, value, comments.get(path, ""))

    return list(walk(yaml.safe_load(text), ""))


def render_table(values: list[Value]) -> str:
    """Returns the table, in Markdown."""
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for value in values:
        default = json.dumps(value.default)
        shown = f"`{default}`" if len(default) <= _LONGEST else "see values.yaml"
        lines.append(f"| `{value.path}` | {shown} | {value.description} |")
    return "\n".join(lines) + "\n"


def with_table(readme: str, values: str) -> str:
    """Returns the README with the table that belongs to the text of values.yaml."""
    before, _, rest = readme.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{render_table(read_values(values))}{_END}{after}"


if __name__ == "__main__":
    readme = CHART / "README.md"
    text = with_table(readme.read_text(encoding="utf-8"), (CHART / "values.yaml").read_text(encoding="utf-8"))
    readme.write_text(text, encoding="utf-8")
