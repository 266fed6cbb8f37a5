"""A version is made whole or not at all, changes no other, and its way back leads back."""

import shutil
import subprocess
from pathlib import Path

import pytest
from support.tiny_networks import newest_version

from gliogate.contract import ENSEMBLE, MODELS
from training import versions
from training.errors import RunError
from training.metadata import CARD, FILE, PATIENTS, hashes, newest_metadata, versions_of
from training.versions import NextVersion, next_version


@pytest.fixture
def repository(tiny_repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_repository, tmp_path / "repository"))


@pytest.fixture
def known(shipped_repository: Path) -> dict[str, object]:
    """What the shipped version says of itself."""
    return newest_metadata(shipped_repository)[1]


def content(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def fill(version: NextVersion, known: dict[str, object]) -> None:
    for model in MODELS:
        (version.folder(model) / "some.txt").write_text(model.name)
    version.describe(known, {"slices": [], "heads": []})


def test_a_version_is_added_and_the_way_back_leads_back(
    repository: Path, known: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    before = content(repository)
    with caplog.at_level("INFO"), next_version(repository) as version:
        fill(version, known)

    after = content(repository)
    assert before.items() <= after.items()
    number, described = newest_metadata(repository)
    assert (number, described["version"]) == (2, 2)
    assert described["sha256"] == hashes(repository, 2) != known["sha256"]
    assert described["recipe"] == known["recipe"]
    gate = {path.name for path in versions.GATE.glob("*.py")}
    assert {path.name for path in newest_version(repository).iterdir()} == gate | {FILE, PATIENTS, "some.txt"}
    assert "Model card: version 2" in after[Path(CARD)].decode()
    assert sorted(repository.parent.iterdir()) == [repository]

    [way_back] = [message for message in caplog.messages if message.startswith("back to version 1: ")]
    subprocess.run(way_back.partition(": ")[2], shell=True, check=True)  # noqa: S602
    assert content(repository).keys() == before.keys() | {Path(CARD)}


@pytest.mark.parametrize("is_there", [False, True])
def test_a_new_folder_becomes_a_repository(
    is_there: bool, known: dict[str, object], shipped_repository: Path, tmp_path: Path
) -> None:
    new = tmp_path / "some" / "where"
    if is_there:
        new.mkdir(parents=True)
    with next_version(new) as version:
        fill(version, known)
    assert newest_metadata(new)[0] == 1
    configurations = {path: text for path, text in content(shipped_repository).items() if path.suffix == ".pbtxt"}
    assert configurations.items() <= content(new).items()
    assert {path.parts[1] for path in content(new) if path.suffix != ".pbtxt" and len(path.parts) > 1} == {"1"}


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="no version of brain_tumor here, and other things are"), next_version(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_fails_leaves_everything_as_it_was(repository: Path, known: dict[str, object], tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        with next_version(folder) as version:
            fill(version, known)
            raise KeyboardInterrupt

    before = content(tmp_path)
    for folder in (repository, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            fail(folder)
    assert content(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_what_died_while_folders_were_moved_is_no_version_and_in_nobodys_way(
    repository: Path, known: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def dies_at_the_gate(path: Path, target: Path) -> Path:
        if path.parent.name == ENSEMBLE.name:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", dies_at_the_gate)
        with pytest.raises(KeyboardInterrupt), next_version(repository) as version:
            fill(version, known)
    assert versions_of(repository) == [1]
    assert (repository / MODELS[0].name / "2").is_dir()

    with next_version(repository) as version:
        fill(version, known)
    assert newest_metadata(repository)[1]["sha256"] == hashes(repository, 2)


def test_a_version_that_somebody_else_made_meanwhile_stays(repository: Path, known: dict[str, object]) -> None:
    def make(*, meanwhile: bool) -> None:
        with next_version(repository) as version:
            if meanwhile:
                make(meanwhile=False)
            (version.folder(ENSEMBLE) / "whose.txt").write_text("ours" if meanwhile else "theirs")
            version.describe(known, {"slices": [], "heads": []})

    with pytest.raises(RunError, match="version 2 was made meanwhile"):
        make(meanwhile=True)
    assert (newest_version(repository) / "whose.txt").read_text() == "theirs"
    assert newest_metadata(repository)[1]["sha256"] == hashes(repository, 2)
