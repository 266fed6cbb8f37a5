"""CONTRIBUTING's table of rooms holds: every Python file has its room, imports only whom that may, and in no circle.

Every import counts, also those inside functions and those under `TYPE_CHECKING`.
"""

import ast
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SEARCHED = (CHECKOUT, CHECKOUT / "client", CHECKOUT / "tests")
"""Where imports are looked up: the working directory, what is installed, and pytest's `pythonpath`."""


@dataclass(frozen=True)
class Room:
    """A row of the table.

    Attributes:
        path: its folder, from the checkout.
        rooms: the folders of those that it may import; None for any.
        libraries: the names of those that it may import; None for any.
    """

    path: str
    rooms: frozenset[str] | None
    libraries: frozenset[str] | None


@dataclass(frozen=True)
class Import:
    """One name that a file imports.

    Attributes:
        file: that does it.
        line: where.
        name: as it is written there.
        found: the file of that name in the checkout, or its folder; None for a library.
    """

    file: Path
    line: int
    name: str
    found: Path | None

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line} imports {self.name}"


def read_table(text: str) -> dict[str, Room]:
    """The rooms by their folders.

    The last column has the packages of other rooms between backticks, or begins with `all` or `nobody`; after
    `libraries:` come those that the room may import at most.
    """
    [table] = re.findall(r"^\| room \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    allowed = {in_backticks(room)[0].rstrip("/"): words for room, _, words in cells}
    folders = {folder.removeprefix("client/").replace("/", "."): folder for folder in allowed}
    rooms = {}
    for folder, words in allowed.items():
        others, limited, libraries = words.partition("libraries:")
        assert in_backticks(others) or others.startswith(("all", "nobody")), f"{folder}: may import whom?"
        rooms[folder] = Room(
            folder,
            None if others.startswith("all") else frozenset(folders[name] for name in in_backticks(others)),
            frozenset(in_backticks(libraries)) if limited else None,
        )
    return rooms


def in_backticks(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


ROOMS = read_table((CHECKOUT / "CONTRIBUTING.md").read_text())


def python_files() -> Iterator[Path]:
    """All of the checkout's folders but of those that are hidden, or that git ignores."""
    ignored = [pattern.rstrip("/") for pattern in (CHECKOUT / ".gitignore").read_text().split()]
    for parent, folders, names in os.walk(CHECKOUT):
        folders[:] = [name for name in folders if not any(fnmatch(name, pattern) for pattern in (".*", *ignored))]
        if Path(parent) != CHECKOUT:
            yield from (Path(parent, name) for name in names if name.endswith(".py"))


def shown(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


def room_of(path: Path) -> Room | None:
    """The room that a path lies in: where one lies in another, the inner one."""
    own = [folder for folder in ROOMS if path.is_relative_to(CHECKOUT / folder)]
    return ROOMS[max(own, key=len)] if own else None


@cache
def imports_of(file: Path) -> list[Import]:
    return [
        Import(file, statement.lineno, name, find(name, file.parent))
        for statement in statements_in(ast.parse(file.read_text(), file))
        for name in names_of(statement, file)
    ]


def statements_in(block: ast.AST) -> Iterator[ast.AST]:
    """All statements of a block and of the blocks in it."""
    for part in ("body", "orelse", "handlers", "finalbody", "cases"):
        for each in getattr(block, part, ()):
            yield each
            yield from statements_in(each)


def names_of(node: ast.AST, file: Path) -> list[str]:
    """The modules that a statement imports, if it is one that does. A name taken from a package may be one of them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    above = shown(file.parents[node.level - 1]).split("/") if node.level else []
    package = ".".join([*above, *([node.module] if node.module else [])])
    parts = dict.fromkeys(f"{package}.{alias.name}" for alias in node.names)
    return list(dict.fromkeys(name if find(name, file.parent, whole=True) else package for name in parts))


@cache
def find(name: str, importing: Path, *, whole: bool = False) -> Path | None:
    """The file or folder of a module, or of as much of its name as there is; None for a library.

    What is not part of a package finds its neighbours, too, as Python does for a program and Triton for a model.

    Args:
        name: of the module.
        importing: the folder of who imports it.
        whole: no less than the whole name will do.
    """
    neighbours = () if (importing / "__init__.py").exists() else (importing,)
    parts = name.split(".")
    for count in range(len(parts), len(parts) - 1 if whole else 0, -1):
        for folder in (*SEARCHED, *neighbours):
            stem = folder.joinpath(*parts[:count])
            for found in (stem / "__init__.py", stem.with_name(f"{stem.name}.py"), stem):
                if found.exists() and (found.is_file() or any(found.rglob("*.py"))):
                    return found
    return None


@cache
def files_by_room() -> dict[str | None, list[Path]]:
    """Found when a test asks: every worker imports this file, and one runs it."""
    files: dict[str | None, list[Path]] = {folder: [] for folder in (None, *ROOMS)}
    for file in sorted(python_files()):
        room = room_of(file)
        files[room and room.path].append(file)
    return files


def circle_in(arrows: dict[str, set[str]]) -> list[str]:
    """The steps of one circle in a graph; none where there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        steps = error.args[1][::-1]
        return [f"{one} imports {other}" for one, other in pairwise(steps)]
    return []


def report(amiss: Iterable[object]) -> None:
    """Fails with what is amiss, one a line."""
    if lines := [f"\n  {line}" for line in amiss]:
        pytest.fail("".join(lines), pytrace=False)


def test_every_python_file_lies_in_a_room_of_the_table():
    report(map(shown, files_by_room()[None]))


@pytest.mark.parametrize("folder", ROOMS)
def test_a_room_of_the_table_is_there(folder):
    assert files_by_room()[folder], f"{folder}/ holds no Python: its row can go"


def test_rooms_import_each_other_in_no_circle():
    report(circle_in({folder: set(room.rooms or ()) for folder, room in ROOMS.items()}))


@pytest.mark.parametrize("folder", ROOMS)
def test_a_room_imports_only_whom_the_table_lets_it(folder):
    room = ROOMS[folder]
    offending = []
    for each in (each for file in files_by_room()[folder] for each in imports_of(file)):
        if each.found is None:
            library = each.name.partition(".")[0]
            is_allowed = room.libraries is None or library in room.libraries | sys.stdlib_module_names
        else:
            other = room_of(each.found)
            is_allowed = room.rooms is None or other == room or (other is not None and other.path in room.rooms)
        if not is_allowed:
            offending.append(each)

    report(offending)


@pytest.mark.parametrize("folder", ROOMS)
def test_the_modules_of_a_room_import_each_other_in_no_circle(folder):
    files = files_by_room()[folder]
    arrows = {shown(file): {shown(each.found) for each in imports_of(file) if each.found in files} for file in files}

    report(circle_in(arrows))
