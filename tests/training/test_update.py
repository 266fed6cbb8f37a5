"""`update`: the same networks behind another gate, served by a real Triton before they are a version."""

import json
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import helper
from support.tiny_networks import newest_version

from gliogate.contract import DETECTOR, ENSEMBLE, IMAGE, SEGMENTER
from training import versions
from training.__main__ import main
from training.metadata import CARD, FILE, hashes, newest_metadata


@pytest.fixture(autouse=True)
def few_phantoms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.update.PHANTOMS", 6)


@pytest.fixture
def repository(tiny_repository: Path, shipped_repository: Path, tmp_path: Path) -> Path:
    """The tiny networks as version 1, which says of itself what the shipped version does; and half of a version 2."""
    copy = Path(shutil.copytree(tiny_repository, tmp_path / "repository"))
    (copy / ENSEMBLE.name / "1" / FILE).write_text(json.dumps(newest_metadata(shipped_repository)[1]))
    describe(copy)
    half = copy / DETECTOR.name / "2"
    half.mkdir()
    (half / "model.onnx").write_bytes(b"half")
    return copy


def describe(repository: Path) -> None:
    """Makes its metadata say that version 1 is as it is."""
    path = repository / ENSEMBLE.name / "1" / FILE
    described = json.loads(path.read_text()) | {"version": 1, "sha256": hashes(repository, 1)}
    described.pop("networks_of", None)
    path.write_text(json.dumps(described))


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The gate's source, to be changed."""
    copy = Path(shutil.copytree(versions.GATE, tmp_path / "gate"))
    monkeypatch.setattr("training.versions.GATE", copy)
    return copy


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def update(repository: Path, *arguments: str) -> int:
    return main(["update", "--model-repository", str(repository), *arguments])


def refusal(repository: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that is left of an update which changes nothing."""
    before = sorted(repository.parent.rglob("*"))
    assert update(repository) == 1
    assert sorted(repository.parent.rglob("*")) == before
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("training: ")
    return error


def test_the_same_networks_behind_a_new_gate_are_the_next_version(repository: Path, gate: Path) -> None:
    with (gate / "gating.py").open("a") as file:
        file.write("# As good as before, and new.\n")
    before = newest_metadata(repository)[1]

    assert update(repository) == 0

    version, described = newest_metadata(repository)
    assert (version, described["version"], described["networks_of"]) == (2, 2, 1)
    assert described["created"]
    assert described["sha256"] == hashes(repository, 2)
    own = {"version", "created", "networks_of", "sha256", "on_gpu"}
    assert {key: value for key, value in described.items() if key not in own} == {
        key: value for key, value in before.items() if key not in own
    }
    assert (newest_version(repository) / "gating.py").read_bytes() == (gate / "gating.py").read_bytes()
    for model, name in ((DETECTOR, "model.onnx"), (SEGMENTER, "model_cpu.onnx"), (ENSEMBLE, "operating_point.json")):
        old, new = (repository / model.name / number / name for number in ("1", "2"))
        assert old.read_bytes() == new.read_bytes()
    assert "Version 1 as today's code writes it" in (repository / CARD).read_text()
    assert before["sha256"] == hashes(repository, 1)


def test_a_gate_that_answers_otherwise_is_refused_unless_that_is_meant(
    repository: Path, gate: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    change(gate / "gating.py", "opened = probability >= batch", "opened = probability < batch")
    told = "6 phantoms are answered otherwise than by version 1: whether the gate opened of 6"
    assert told in refusal(repository, capsys)

    assert update(repository, "--force") == 0
    assert told in caplog.text
    assert newest_metadata(repository)[0] == 2


def test_a_gate_that_needs_another_configuration_is_held_against_the_old_one_as_it_was(
    repository: Path, gate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    released = Path(shutil.copytree(repository, tmp_path / "released"))
    change(repository / ENSEMBLE.name / "config.pbtxt", 'string_value: "8"', 'string_value: "once"')
    change(gate / "model.py", "text.isdecimal()", '(text := text.replace("once", "1")).isdecimal()')
    assert "parameter 'rows_at_once' is 'once'" in refusal(repository, capsys)

    assert update(repository, "--released", str(released)) == 0
    assert newest_metadata(repository)[0] == 2
    assert newest_metadata(released)[0] == 1


def test_a_network_gets_the_files_and_the_graph_that_it_lacks(
    repository: Path, kaggle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Released before there was a file for GPUs, and with a graph that does something before its Cast."""
    for model in (DETECTOR, SEGMENTER):
        (repository / model.name / "1" / "model_gpu.onnx").unlink()
    old = repository / DETECTOR.name / "1" / "model.onnx"
    network = onnx.load(old)
    [cast] = [node for node in network.graph.node if IMAGE.name in node.input]
    cast.input[0] = "moved"
    network.graph.node.insert(0, helper.make_node("Identity", [IMAGE.name], ["moved"]))
    onnx.save(network, old)
    describe(repository)
    assert "tumor_detector has no model_gpu.onnx; give --data" in refusal(repository, capsys)

    assert update(repository, "--data", str(kaggle)) == 0

    new = onnx.load(repository / DETECTOR.name / "2" / "model.onnx")
    assert [node.op_type for node in new.graph.node if IMAGE.name in node.input] == ["Cast"]
    described = newest_metadata(repository)[1]["on_gpu"]
    assert set(described) == {DETECTOR.name, SEGMENTER.name}
    for model in (DETECTOR, SEGMENTER):
        assert described[model.name]["bits"] in (16, 32)
        assert (repository / model.name / "2" / "model_gpu.onnx").is_file()


def test_a_version_that_needs_nothing_is_refused(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "version 1 is what today's code writes; there is nothing to update" in refusal(repository, capsys)


def test_a_version_that_was_changed_by_hand_is_not_carried_on(
    repository: Path, gate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (gate / "gating.py").write_text("")
    changed = repository / ENSEMBLE.name / "1" / "operating_point.json"
    changed.write_text(changed.read_text() + "\n")
    assert f"{changed}: not the file that was released as version 1" in refusal(repository, capsys)


def test_a_folder_without_a_version_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "metadata.json: not there" in refusal(tmp_path / "empty", capsys)
