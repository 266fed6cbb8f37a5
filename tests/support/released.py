"""Whether a model repository's versions are, byte for byte, what was released."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from gliogate.contract import ENSEMBLE
from training.metadata import FILE, hashes, versions_of


def changes(repository: Path, released: Mapping[str, str]) -> list[str]:
    """What is not as it was released, one line each.

    Args:
        repository: a model repository.
        released: the SHA-256 of each version's `metadata.json`, which has those of all its other files.
    """
    return [line for version in sorted(versions_of(repository)) for line in _changes(repository, version, released)]


def _changes(repository: Path, version: int, released: Mapping[str, str]) -> list[str]:
    path = repository / ENSEMBLE.name / str(version) / FILE
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if str(version) not in released:
        return [f'version {version} is new: to release it, add "{version}": "{found}" to tests/contract/released.json']
    if found != released[str(version)]:
        return [f"{path}: was changed after its release; a change is a new version"]
    told, there = json.loads(content)["sha256"], hashes(repository, version)
    return [
        f"{repository / name}: was changed, added or removed after its release; a change is a new version"
        for name in sorted(told | there)
        if told.get(name) != there.get(name)
    ]
