"""The scenarios, one small file each; a scenario's name is its file's. Each docstring's first line is its question."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from loadtests.errors import SettingsError
from loadtests.settings import Settings
from loadtests.stage import Stage, told_share


def names() -> list[str]:
    """All scenarios."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__))


def question(name: str) -> str:
    """What a scenario answers, in a line."""
    return (_find(name).__doc__ or "").partition("\n")[0]


def stages(name: str, settings: Settings) -> list[Stage]:
    """The stages of a scenario, once for each prevalence.

    Raises:
        SettingsError: there is no such scenario.
    """
    scenario, several = _find(name), len(settings.prevalence) > 1
    return [
        replace(
            stage,
            prevalence=prevalence,
            name=f"{stage.name}, {told_share(prevalence)}" if several else stage.name,
            seed=settings.seed,
        )
        for prevalence in settings.prevalence
        for stage in scenario.stages(settings)
    ]


def all_stages(names: Iterable[str], settings: Settings) -> list[Stage]:
    """The stages of several scenarios; of those that have the same name, the second and later ones are numbered.

    Raises:
        SettingsError: there is no such scenario.
    """
    found, seen = [], Counter[str]()
    for stage in (stage for name in names for stage in stages(name, settings)):
        seen[stage.name] += 1
        count = seen[stage.name]
        found.append(replace(stage, name=f"{stage.name} ({count})") if count > 1 else stage)
    return found


def _find(name: str) -> ModuleType:
    if name not in names():
        raise SettingsError(f"there is no scenario {name!r}; there are {', '.join(names())}")
    return import_module(f"{__name__}.{name.replace('-', '_')}")
