"""A released version never changes again: each of its files has the hash that it was released with.

`released.json` has the hash of each version's `metadata.json`, and that has those of all its other files.
"""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from support.released import changes
from support.tiny_networks import newest_version

from gliogate.contract import MODELS
from training.versions import GATE, gate_of

REPOSITORY = Path(__file__).parents[2] / "model_repository"
RELEASED = json.loads(Path(__file__).with_name("released.json").read_text())
FILES = [path.relative_to(REPOSITORY) for path in sorted(REPOSITORY.glob("*/[0-9]*/*")) if path.is_file()]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(REPOSITORY, tmp_path / "repository", copy_function=lambda a, b: Path(b).symlink_to(a)))


def test_no_released_version_was_changed() -> None:
    assert changes(REPOSITORY, RELEASED) == []


def test_every_version_has_all_three_models() -> None:
    versions = [{path.name for path in (REPOSITORY / model.name).iterdir() if path.is_dir()} for model in MODELS]
    assert [folders - {"configs"} for folders in versions] == [versions[-1] - {"configs"}] * len(MODELS)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_changed_byte_is_found(path: Path, copy: Path) -> None:
    content = bytearray((copy / path).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / path).unlink()
    (copy / path).write_bytes(content)
    [line] = changes(copy, RELEASED)
    assert line.startswith(str(copy / path))


def test_a_file_more_and_a_file_less_are_found(copy: Path) -> None:
    (newest_version(copy) / "more.py").write_text("")
    (newest_version(copy) / "counters.py").unlink()
    assert [Path(line.partition(":")[0]).name for line in changes(copy, RELEASED)] == ["counters.py", "more.py"]


def test_a_new_version_is_told_how_it_is_released(copy: Path) -> None:
    for model in MODELS:
        newest = max((copy / model.name).glob("[0-9]*"), key=lambda folder: int(folder.name))
        shutil.copytree(newest, newest.with_name("1000"))
    [line] = changes(copy, RELEASED)
    digest = hashlib.sha256((newest_version(copy) / "metadata.json").read_bytes()).hexdigest()
    assert f'"1000": "{digest}"' in line
    assert "tests/contract/released.json" in line


def test_the_newest_version_has_the_gates_source() -> None:
    """Or an older one: the source may run ahead, and is released with the next version."""
    newest = newest_version(REPOSITORY)
    if gate_of(newest) != gate_of(GATE):
        pytest.skip(f"gate/ is ahead of version {newest.name}; `python -m training update` makes it the next")
