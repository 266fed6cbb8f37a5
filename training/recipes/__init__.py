"""The recipes by name: each file holds one, and says what it takes and what to expect of it."""

from importlib import import_module
from pkgutil import iter_modules

from training.errors import RecipeError
from training.recipe import Recipe

DEFAULT = "flagship"


def names() -> list[str]:
    """Of all recipes."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__))


def find(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        RecipeError: there is none.
    """
    if name not in names():
        raise RecipeError(f"no recipe {name!r}; there are {', '.join(names())}")
    recipe: Recipe = import_module(f"{__name__}.{name.replace('-', '_')}").RECIPE
    return recipe
