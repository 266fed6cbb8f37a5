"""The scenarios, one small file each; a scenario's name is its file's. Each docstring's first line is its question."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Final

from loadtests.errors import SettingsError
from loadtests.settings import Settings
from loadtests.stage import Stage, told_share

MOST_ARRIVALS: Final = 50_000_000
"""Of a stage: six hours at 2,000 a second. Their times take 400 MB, and some of that again while they are drawn."""


def names() -> list[str]:
    """All scenarios."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__))


def question(name: str) -> str:
    """What a scenario answers, in a line."""
    return (_find(name).__doc__ or "").partition("\n")[0]


def stages(name: str, settings: Settings) -> list[Stage]:
    """The stages of a scenario, once for each prevalence.

    Raises:
        SettingsError: there is no such scenario, or a stage has too many arrivals to be scheduled.
    """
    scenario, several = _find(name), len(settings.prevalence) > 1
    found = [
        replace(
            stage,
            prevalence=prevalence,
            name=f"{stage.name}, {told_share(prevalence)}" if several else stage.name,
            seed=settings.seed,
        )
        for prevalence in settings.prevalence
        for stage in scenario.stages(settings)
    ]
    for stage in found:
        if stage.arrivals and (count := stage.arrivals.expected(stage.duration_s)) > MOST_ARRIVALS:
            raise SettingsError(
                f"{stage.name!r} has some {count:,.0f} arrivals, at most {MOST_ARRIVALS:,} can be scheduled: "
                "a lower --rate or a shorter --duration"
            )
    return found


def all_stages(names: Iterable[str], settings: Settings) -> list[Stage]:
    """The stages of several scenarios; of those that have the same name, the second and later ones are numbered.

    Raises:
        SettingsError: as `stages`.
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
