"""A process in which a package that was not asked for is not there, though this environment has it.

    python tests/support/only_installed.py '.[loadtest]' -m loadtests server
    python tests/support/only_installed.py '. jinja2 !training' -c 'import reports.frame'

What stands first is what pip would be told: `.` is this checkout's project, with extras in brackets. All that these
require is found, and the standard library; what else is installed is refused as if it were missing, and so are rooms of
the checkout with a ! before them.
"""

import runpy
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]


def required(wanted: Sequence[str]) -> set[str]:
    """The names of all distributions that pip would install."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    queue = [Requirement(project["name"] + word[1:] if word.startswith(".") else word) for word in wanted]
    seen: dict[str, set[str]] = {}
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras | {""}
        if new := extras - seen.get(name, set()):
            seen[name] = seen.get(name, set()) | extras
            queue += [each for each in _requires(name, project) if _applies(each, new)]
    return set(seen)


def _requires(name: str, project: dict) -> Iterator[Requirement]:
    if name != project["name"]:
        try:
            yield from map(Requirement, distribution(name).requires or ())
        except PackageNotFoundError:
            return
        return
    # As the checkout has it, not as it was when it was installed.
    yield from map(Requirement, project["dependencies"])
    for extra, words in project["optional-dependencies"].items():
        for word in words:
            requirement = Requirement(word)
            marker = f"({requirement.marker}) and " if requirement.marker else ""
            requirement.marker = None
            yield Requirement(f"{requirement} ; {marker}extra == '{extra}'")


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    return not requirement.marker or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)


class Refusing(MetaPathFinder):
    """Finds nothing, and says so of what is refused."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def find_spec(self, fullname, path=None, target=None):  # noqa: ARG002  as Python has it
        if fullname.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def refused(wanted: Sequence[str]) -> set[str]:
    """Top-level modules that only distributions have which are not required."""
    allowed = required(wanted)
    return {
        module
        for module, owners in packages_distributions().items()
        if not any(canonicalize_name(owner) in allowed for owner in owners)
    }


def main() -> None:
    """Runs a module or a line of Python; see the top."""
    _, wanted, kind, what, *words = sys.argv
    rooms = {word[1:] for word in wanted.split() if word.startswith("!")}
    packages = [word for word in wanted.split() if not word.startswith("!")]
    sys.meta_path.insert(0, Refusing(refused(packages) | rooms))
    sys.argv = [what, *words]
    sys.path[0] = str(CHECKOUT)
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<line>", "exec"), {"__name__": "__main__"})  # noqa: S102  it is the test's own


if __name__ == "__main__":
    main()
