"""`make gpu-check`: here what it does without a GPU, and its checks on a Triton that answers without one."""

import shutil
from pathlib import Path

import pytest

from deploy.gpu_check.__main__ import main
from deploy.gpu_check.checks import (
    OF_THE_FIRST_START,
    OF_THE_SECOND_START,
    Machine,
    WrongError,
    answers_are_those_of_32_bits,
    each_network_is_one_engine,
    gate_works_on_the_gpu,
    gpu_is_one_that_triton_supports,
    memory_is_what_was_estimated,
    second_start_takes_what_the_first_left,
)
from deploy.gpu_check.server import CACHE, REPOSITORY, Server
from gliogate.embedded import EmbeddedServer
from gliogate.phantom import make_phantoms

HAS_GPU = shutil.which("nvidia-smi") is not None


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a program on PATH that says so, and ends with this code."""

    def put(name, said, code=0):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\necho '{said}'\nexit {code}\n")
        (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return put


@pytest.fixture
def machine(tmp_path):
    """A Triton that logged little, and kept nothing yet."""
    log = tmp_path / "triton.log"
    log.write_text("I0000 started\n")
    (tmp_path / "cache").mkdir()
    return Machine(Server("localhost:1", 300.0, log), tmp_path / "cache", phantoms=[])


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU or shutil.which("tritonserver") is None, reason="there is no GPU, or no Triton, here")
def test_all_is_well_on_this_gpu(tmp_path):
    assert main(["--output", str(tmp_path / "report.json")]) == 0


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU here")
def test_without_a_gpu_it_says_what_it_would_do(capsys, tmp_path):
    assert main(["--output", str(tmp_path / "report.json")]) == 0

    said = capsys.readouterr().out
    assert said.startswith("Nothing was checked: there is no GPU here")
    lines = [line[2:] for line in said.splitlines() if line.startswith("- ")]
    assert len(lines) == len(OF_THE_FIRST_START + OF_THE_SECOND_START)
    assert all(line.endswith(".") for line in lines)
    assert not (tmp_path / "report.json").exists()


def test_a_gpu_without_a_triton_is_told(program, capsys, tmp_path):
    program("nvidia-smi", "NVIDIA L4")
    assert main(["--output", str(tmp_path / "report.json")]) == 2
    assert "tritonserver is not on PATH" in capsys.readouterr().err


def test_a_triton_that_does_not_start_is_told_with_the_end_of_its_log(program, capsys, tmp_path):
    program("nvidia-smi", "NVIDIA L4")
    program("docker", "cudaErrorInsufficientDriver", code=1)
    assert main(["--image", "server:1", "--output", str(tmp_path / "report.json")]) == 2
    said = capsys.readouterr().err
    log = tmp_path / "report.1.log"
    assert f"Triton ended with exit code 1:\ncudaErrorInsufficientDriver\nThe whole log is {log}." in said
    assert log.read_text() == "cudaErrorInsufficientDriver\n"


def test_the_cache_is_where_the_configurations_have_it():
    for path in REPOSITORY.glob("tumor_*/configs/gpu*.pbtxt"):
        assert path.read_text().count(f'"{CACHE}"') == 1


@pytest.mark.parametrize(("capability", "is_right"), [("9.0", True), ("7.5", True), ("7.0", False)])
def test_an_old_gpu_is_told(program, machine, capability, is_right):
    program("nvidia-smi", f"NVIDIA X, 580.10, {capability}, 16384, Disabled")
    if is_right:
        gpu_is_one_that_triton_supports(machine)
        assert "580.10" in machine.found["GPU"]
    else:
        with pytest.raises(WrongError, match=f"capability {capability}"):
            gpu_is_one_that_triton_supports(machine)


@pytest.mark.parametrize("engines", [0, 1, 2, 3])
def test_a_network_that_was_cut_is_found_by_its_engines(machine, engines):
    for number in range(engines):
        (machine.cache / f"{number}_sm90.engine").touch()
    if engines == 2:
        each_network_is_one_engine(machine)
        return
    with pytest.raises(WrongError, match=f"^{engines} engines for two networks"):
        each_network_is_one_engine(machine)


@pytest.mark.parametrize(("ready_s", "more"), [(200.0, 0), (20.0, 1)])
def test_a_second_start_that_builds_is_found(machine, ready_s, more):
    machine.found["engines"] = ["0.engine", "1.engine"]
    machine.first_ready_s = 300.0
    for number in range(2 + more):
        (machine.cache / f"{number}.engine").touch()
    machine.server = Server("localhost:1", ready_s, machine.server.log)
    with pytest.raises(WrongError, match="ready after 300 s without engines"):
        second_start_takes_what_the_first_left(machine)


def test_a_second_start_that_builds_nothing_is_right(machine):
    machine.found["engines"] = ["0.engine", "1.engine"]
    machine.first_ready_s = 300.0
    for name in machine.found["engines"]:
        (machine.cache / name).touch()
    machine.server = Server("localhost:1", 20.0, machine.server.log)
    second_start_takes_what_the_first_left(machine)


def test_a_gate_that_does_not_work_on_the_gpu_is_found(machine):
    with pytest.raises(WrongError, match="no kernel of CuPy's"):
        gate_works_on_the_gpu(machine)
    kernel = machine.cache / "cupy" / "abc.cubin"
    kernel.parent.mkdir()
    kernel.touch()
    gate_works_on_the_gpu(machine)
    # As the gate itself says it.
    source = (Path(__file__).parents[2] / "gate" / "model.py").read_text()
    said = "without CuPy slices and masks go through host memory"
    assert said in source
    machine.server.log.write_text(f"W0000 brain_tumor: {said}\n")
    with pytest.raises(WrongError, match="host's memory"):
        gate_works_on_the_gpu(machine)


@pytest.mark.parametrize(("used", "is_right"), [(3000, True), (9000, False)])
def test_more_memory_than_was_estimated_is_found(program, machine, used, is_right):
    program("nvidia-smi", used)
    if is_right:
        memory_is_what_was_estimated(machine)
    else:
        with pytest.raises(WrongError, match=f"{used} MiB are used"):
            memory_is_what_was_estimated(machine)


def test_what_nvidia_smi_does_not_tell_is_an_error_of_that_check(program, machine):
    program("nvidia-smi", "[N/A]")
    with pytest.raises(WrongError, match=r"tells '\[N/A\]', no number"):
        memory_is_what_was_estimated(machine)


@pytest.mark.parametrize(("name", "is_right"), [("fp32", True), ("", False)], ids=["32 bits", "8 bits"])
def test_answers_that_are_off_are_found(machine, name, is_right):
    machine.phantoms = list(make_phantoms(40, prevalence=0.5, seed=22))
    with EmbeddedServer(REPOSITORY, model_config_name=name) as server:
        machine.server = Server(server.url, 1.0, machine.server.log)
        if is_right:
            answers_are_those_of_32_bits(machine)
            assert machine.found["off 32 bits by"]["tumor probability"] < 0.001
        else:
            with pytest.raises(WrongError, match="tumor probabilities are off by"):
                answers_are_those_of_32_bits(machine)
