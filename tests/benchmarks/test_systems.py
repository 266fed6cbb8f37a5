"""What is compared with what."""

from benchmarks import repositories
from benchmarks.pair import OURS
from benchmarks.repositories import networks_of
from benchmarks.systems import BATCHES, Workshop


def test_systems_are_told_apart_by_the_networks_they_are_given(tiny_repository, tmp_path, monkeypatch):
    # As on a processor with VNNI.
    monkeypatch.setattr(repositories, "suitable_config", lambda: None)
    workshop = Workshop(tiny_repository, networks_of(tiny_repository, OURS), tmp_path)

    networks = {(system.name, system.engine): system.networks for system in workshop.systems()}

    assert networks["in one process, ours", "ours"] == networks["gliogate, SDK", "ours"] == "model_cpu.onnx"
    assert networks["FastAPI", "onnxruntime"] == networks["in one process, openvino fp32", "openvino fp32"]
    assert networks["FastAPI", "onnxruntime"] == "model.onnx"
    assert networks["in one process, openvino bf16", "openvino bf16"] == "model.onnx, openvino bf16"


def test_what_has_no_server_is_given_batches(tiny_repository, tmp_path):
    workshop = Workshop(tiny_repository, networks_of(tiny_repository, OURS), tmp_path)

    assert {system.in_flight for system in workshop.systems() if system.in_process} == {BATCHES}
    assert all(system.in_process for system in workshop.systems() if system.kind == "limit")
