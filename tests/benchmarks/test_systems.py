"""What is compared with what."""

from benchmarks.pair import OURS
from benchmarks.repositories import networks_of
from benchmarks.systems import BATCHES, Workshop


def test_systems_are_told_apart_by_the_networks_they_are_given(tiny_repository, tmp_path):
    workshop = Workshop(tiny_repository, networks_of(tiny_repository, OURS), tmp_path)

    networks = {(system.name, system.engine): system.networks for system in workshop.systems()}

    assert networks["in one process, ours", "ours"] == networks["gliogate, SDK", "ours"] == "model_cpu.onnx"
    assert networks["FastAPI", "onnxruntime"] == networks["in one process, openvino fp32", "openvino fp32"]
    assert networks["FastAPI", "onnxruntime"] == "model.onnx"
    assert networks["in one process, openvino bf16", "openvino bf16"] == "model.onnx, openvino bf16"
    assert networks["in one process, onnxruntime int8", "onnxruntime int8"] == "model_cpu.onnx, onnxruntime int8"


def test_what_has_no_server_is_given_batches(tiny_repository, tmp_path):
    workshop = Workshop(tiny_repository, networks_of(tiny_repository, OURS), tmp_path)

    assert {system.in_flight for system in workshop.systems() if system.in_process} == {BATCHES}
    assert all(system.in_process for system in workshop.systems() if system.kind == "limit")
