"""Columns of several parts end to end."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

Columns = TypeVar("Columns")


def joined(parts: Sequence[Columns]) -> Columns:
    """Several dataclasses of one kind as one; every field is an array with a row a slice.

    Args:
        parts: at least one.
    """
    kind: Any = type(parts[0])
    return kind(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(kind)))
