"""Libraries that come with an extra, imported where they are needed."""

from importlib import import_module
from typing import Any

from gliogate.errors import MissingExtraError


def require(module: str, *, extra: str) -> Any:
    """Imports a module that an extra of gliogate's brings.

    Raises:
        MissingExtraError: it is not installed; the message says what to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{module} is not installed ({error}): pip install 'gliogate[{extra}]'") from error
