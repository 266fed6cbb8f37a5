"""The embedded server: it starts, says why when it cannot, and leaves nothing behind, however its owner ends."""

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnx
import pytest
import tritonclient.grpc
from support.tiny_networks import poisoned, slices
from support.waiting import wait_for

from gliogate import Client, contract
from gliogate.embedded import EmbeddedServer
from gliogate.embedded.installation import Installation
from gliogate.embedded.stubs import has_died, stubs_of
from gliogate.errors import EmbeddedServerError, GliogateError

GONE_WITHIN_S = 10.0


def server_id(server):
    """The name that Triton was given, which every one of its processes, files and memory regions bears."""
    with urllib.request.urlopen(f"{server.http_url}/v2") as response:
        return json.load(response)["name"]


def processes(identity):
    """Returns the processes that have the server's name on their command line: guard, Triton and stubs, by number."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(identity.encode() in argument for argument in arguments):
            found[int(folder.name)] = [argument.decode() for argument in arguments]
    return found


def traces(identity):
    """Returns what is there of a server, running or not."""
    regions = Path("/dev/shm").glob(f"{identity}*")
    folders = Path(os.environ.get("TMPDIR", "/tmp")).glob(f"{identity}*")
    return [*processes(identity).values(), *regions, *folders]


def wait_until_gone(identity):
    deadline = time.monotonic() + GONE_WITHIN_S
    while (left := traces(identity)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def pid_of(identity, program):
    return next(
        pid for pid, arguments in processes(identity).items() if any(a.endswith(program) for a in arguments[:4])
    )


@pytest.fixture
def broken_repository(tiny_repository, tmp_path):
    """A copy to break."""
    return Path(shutil.copytree(tiny_repository, tmp_path / "model_repository"))


def test_it_serves_every_model_at_the_addresses_it_names(tiny_server):
    client = tritonclient.grpc.InferenceServerClient(tiny_server.url)
    with urllib.request.urlopen(f"{tiny_server.http_url}/v2/health/ready") as ready:
        assert ready.status == 200
    with urllib.request.urlopen(tiny_server.metrics_url) as metrics:
        assert b'nv_inference_count{model="brain_tumor"' in metrics.read()
    assert all(client.is_model_ready(model.name) for model in contract.MODELS)
    client.close()


def test_it_listens_on_loopback_only(tiny_server):
    loopback, listening = {"0100007F", "0000000000000000FFFF00000100007F"}, "0A"
    ports = {int(tiny_server.url.rpartition(":")[2])}
    ports |= {urlsplit(url).port for url in (tiny_server.http_url, tiny_server.metrics_url)}
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = row.split()
            address, port = local.split(":")
            if state == listening and int(port, 16) in ports:
                assert address in loopback
                found.add(int(port, 16))

    assert found == ports


def test_no_other_user_may_enter_its_folder_or_read_its_shared_memory(tiny_server):
    folder = Path(tiny_server.triton_url.removeprefix("unix:")).parent
    regions = list(Path("/dev/shm").glob(f"{folder.name}*"))

    assert len(regions) >= 4
    assert {oct(path.stat().st_mode & 0o077) for path in [folder, *regions]} == {"0o0"}


def test_start_and_stop_do_nothing_the_second_time(tiny_repository):
    server = EmbeddedServer(tiny_repository)
    server.stop()
    server.start()
    url, identity = server.url, server_id(server)
    server.start()
    assert (server.url, server_id(server)) == (url, identity)
    server.stop()
    server.stop()

    assert traces(identity) == []
    with pytest.raises(EmbeddedServerError, match="not running"):
        _ = server.url


def test_two_servers_share_a_machine(tiny_repository, tiny_server):
    with EmbeddedServer(tiny_repository) as second:
        assert second.url != tiny_server.url
        second.check()
    tiny_server.check()


def test_it_outlives_the_thread_that_started_it(tiny_repository):
    server = EmbeddedServer(tiny_repository)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        time.sleep(0.5)
        server.check()
    finally:
        server.stop()


def test_the_model_repository_is_not_written_to(tiny_repository, tiny_server):
    assert tiny_server.url
    assert list(tiny_repository.rglob("__pycache__")) == []


def test_an_explicit_port_is_the_one_that_is_used(tiny_repository):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with EmbeddedServer(tiny_repository, host="localhost", grpc_port=port) as server:
        assert server.url == f"127.0.0.1:{port}"


def test_a_taken_port_is_named(tiny_repository):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match=f"127.0.0.1, port {port}: .*in use"):
            EmbeddedServer(tiny_repository, http_port=port).start()


def test_a_triton_that_gives_up_at_its_start_is_started_again(tiny_repository, monkeypatch, tmp_path):
    """As it does on a machine that is starved, which cannot be had at will: the first one only says so."""
    gives_up = tmp_path / "tritonserver"
    gives_up.write_text("#!/bin/sh\necho '  what():  boost::interprocess::lock_exception'\nexit 134\n")
    gives_up.chmod(0o755)
    real, started = Installation.executable.fget, []

    def executable(installation):
        started.append(gives_up if not started else real(installation))
        return started[-1]

    monkeypatch.setattr(Installation, "executable", property(executable))
    with EmbeddedServer(tiny_repository) as server:
        server.check()
    assert len(started) == 2


def remove(path):
    return lambda repository: (repository / path).unlink()


def write(path, text):
    return lambda repository: (repository / path).write_text(text)


def append(path, text):
    return lambda repository: (repository / path).write_text(f"{(repository / path).read_text()}\n{text}\n")


def replace(path, old, new):
    def edit(repository):
        text = (repository / path).read_text()
        assert old in text
        (repository / path).write_text(text.replace(old, new))

    return edit


def accelerated_by(name):
    return f'optimization {{ execution_accelerators {{ cpu_execution_accelerator {{ name: "{name}" }} }} }}'


IN_32_BITS = "configs/fp32.pbtxt"
"""Of each network: that in ONNX Runtime."""


@pytest.mark.parametrize(
    ("break_it", "reasons"),
    [
        pytest.param(shutil.rmtree, ["model_repository is not a folder"], id="no repository"),
        pytest.param(
            lambda repository: shutil.rmtree(repository / "tumor_segmenter"),
            ["lacks tumor_segmenter/config.pbtxt"],
            id="no model",
        ),
        pytest.param(
            lambda repository: shutil.rmtree(repository / "tumor_segmenter" / "1"),
            ["'tumor_segmenter': at least one version must be available"],
            id="no version",
        ),
        pytest.param(
            lambda repository: [network.unlink() for network in repository.glob("*/1/model_cpu.onnx")],
            ["tumor_detector/1/model_cpu.onnx is missing", "tumor_segmenter/1/model_cpu.onnx is missing"],
            id="no networks",
        ),
        pytest.param(
            write("tumor_detector/1/model_cpu.onnx", "not a network"),
            ["tumor_detector/1/model_cpu.onnx is not a model that OpenVINO can load"],
            id="damaged network",
        ),
        pytest.param(
            replace("tumor_detector/config.pbtxt", "max_batch_size", "max_batch"),
            ['no field named "max_batch"', "tumor_detector/config.pbtxt"],
            id="broken config",
        ),
        pytest.param(
            replace("tumor_detector/config.pbtxt", '"onnxruntime"', '"tensorrt"'),
            ["unable to find backend library for backend 'tensorrt'"],
            id="unknown backend",
        ),
        pytest.param(
            replace("tumor_detector/config.pbtxt", "TYPE_UINT8", "TYPE_FP32"),
            ["input 'image' is TYPE_UINT8 [-1, 256, 256, 3] in", "and TYPE_FP32 [-1, 256, 256, 3] in config.pbtxt"],
            id="datatype",
        ),
        pytest.param(
            replace("tumor_segmenter/config.pbtxt", "dims: [ 256, 256 ]", "dims: [ 256, 255 ]"),
            ["output 'mask_probability' is TYPE_FP32 [-1, 256, 256] in", "and TYPE_FP32 [-1, 256, 255]"],
            id="shape",
        ),
        pytest.param(
            replace("tumor_segmenter/config.pbtxt", "mask_probability", "mask"),
            ["has no output 'mask', as config.pbtxt says; it has mask_probability"],
            id="tensor name",
        ),
        pytest.param(
            append(
                "tumor_detector/config.pbtxt",
                'parameters { key: "intra_op_thread_count" value { string_value: "two" } }',
            ),
            ["parameter 'intra_op_thread_count' is 'two', expected a number"],
            id="thread count",
        ),
        pytest.param(
            replace("tumor_detector/config.pbtxt", '"openvino"', '"tensorrt"'),
            ["cpu_execution_accelerator is tensorrt, expected openvino"],
            id="accelerator",
        ),
        pytest.param(
            write("brain_tumor/1/operating_point.json", '{"detection_threshold": 1.5, "mask_threshold": 0.5}'),
            ["brain_tumor/1/operating_point.json: detection_threshold is 1.5, expected a number from 0 to 1"],
            id="operating point",
        ),
        pytest.param(
            remove("brain_tumor/1/operating_point.json"),
            ["No such file or directory: ", "brain_tumor/1/operating_point.json"],
            id="no operating point",
        ),
    ],
)
def test_what_goes_wrong_at_start_is_one_line_with_the_reason(broken_repository, break_it, reasons):
    break_it(broken_repository)

    assert_is_refused(EmbeddedServer(broken_repository), reasons)


@pytest.mark.parametrize(
    ("break_it", "reasons"),
    [
        pytest.param(
            write("tumor_detector/1/model.onnx", "not a network"),
            ["tumor_detector/1/model.onnx is not a model that ONNX Runtime can load", "Protobuf parsing failed"],
            id="damaged network",
        ),
        pytest.param(
            replace(f"tumor_segmenter/{IN_32_BITS}", "TYPE_FP32 dims: [ 256, 256 ]", "TYPE_FP16 dims: [ 255, 256 ]"),
            [
                "output 'mask_probability' is TYPE_FP32 [-1, 256, 256] in",
                "and TYPE_FP16 [-1, 255, 256] in config.pbtxt",
            ],
            id="datatype and shape",
        ),
        pytest.param(
            append(f"tumor_detector/{IN_32_BITS}", "optimization { graph { level: 7 } }"),
            ["optimization.graph.level is 7, expected -1, 0, 1 or 2"],
            id="graph level",
        ),
    ],
)
def test_so_it_is_in_onnx_runtime(broken_repository, break_it, reasons):
    break_it(broken_repository)

    assert_is_refused(EmbeddedServer(broken_repository, model_config_name="fp32"), reasons)


def assert_is_refused(server, reasons):
    with pytest.raises(EmbeddedServerError) as error:
        server.start()

    message = str(error.value)
    assert all(reason in message for reason in reasons), message
    assert "\n" not in message
    assert "Traceback" not in message


ASKED = """
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
parameters { key: "execution_mode" value { string_value: "1" } }
optimization {
  graph { level: -1 }
  execution_accelerators { %s gpu_execution_accelerator { name: "tensorrt" } }
}
"""


@pytest.mark.parametrize(
    ("accelerator", "ignored"),
    [("", set()), ('cpu_execution_accelerator { name: "openvino" }', {"optimization.graph", "execution_mode"})],
    ids=["ONNX Runtime", "OpenVINO"],
)
def test_what_a_configuration_asks_of_a_cpu_is_done_and_the_rest_is_logged(
    broken_repository, capfd, accelerator, ignored
):
    shutil.copy(broken_repository / "tumor_detector" / IN_32_BITS, broken_repository / "tumor_detector/config.pbtxt")
    append("tumor_detector/config.pbtxt", ASKED % accelerator)(broken_repository)

    with EmbeddedServer(broken_repository, verbose=True) as server:
        server.check()

    log = capfd.readouterr().err
    told = set(re.findall(r"tumor_detector: (.+?) is ignored", log))
    assert told == {"gpu_execution_accelerator 'tensorrt'", *ignored}
    assert "NVML" not in log
    assert "CUDA" not in log


def test_openvino_answers_as_onnx_runtime_does_and_neither_counts_users(tiny_repository, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    images = slices(0.25, 0.75, 1.0)
    images = [*images, *poisoned(images, contract.SEGMENTER), *reversed(images)]
    answers = []

    for name in ("fp32", ""):
        with EmbeddedServer(tiny_repository, model_config_name=name) as server, Client(server.url) as client:
            found = list(client.analyze_many(images, in_flight=1, on_error="return"))
            loaded = {name for pid in processes(server_id(server)) for name in engines_in(pid)}
        answers.append((loaded, found))

    (engine, expected), (accelerator, found) = answers
    assert (engine, accelerator) == ({"onnxruntime"}, {"openvino"})
    for ours, theirs in zip(found, expected, strict=True):
        if isinstance(theirs, GliogateError):
            assert "tumor_segmenter: " in str(ours)
        else:
            assert ours.tumor_probability == pytest.approx(theirs.tumor_probability, abs=1e-6)
            np.testing.assert_array_equal(ours.mask, theirs.mask)
    assert sum(isinstance(each, GliogateError) for each in found) == 2
    assert list(home.iterdir()) == []


def test_tensors_that_openvino_makes_one_of_keep_their_names(broken_repository):
    path = broken_repository / "tumor_detector" / "1" / "model_cpu.onnx"
    network = onnx.load(path)
    network.CopyFrom(onnx.compose.add_prefix(network, "inner_"))
    nodes = network.graph.node
    for tensor, outer in ((network.graph.input[0], "image"), (network.graph.output[0], "tumor_probability")):
        ends = (outer, tensor.name) if outer == "image" else (tensor.name, outer)
        nodes.insert(0 if outer == "image" else len(nodes), onnx.helper.make_node("Identity", [ends[0]], [ends[1]]))
        tensor.name = outer
    onnx.save(network, path)

    with EmbeddedServer(broken_repository) as server, Client(server.url) as client:
        assert client.detect(slices(0.75)[0]).tumor_probability == pytest.approx(0.75, abs=1e-6)


def engines_in(pid):
    """Which of the two engines a process has loaded."""
    libraries = Path(f"/proc/{pid}/maps").read_text()
    return {engine for engine in ("onnxruntime", "openvino") if f"/{engine}/" in libraries}


def test_a_server_says_nothing_unless_asked(tiny_repository, capfd):
    with EmbeddedServer(tiny_repository):
        pass

    assert capfd.readouterr() == ("", "")


def test_a_start_that_takes_too_long_ends(tiny_repository):
    with pytest.raises(EmbeddedServerError, match=r"not ready after 0\.1 s"):
        EmbeddedServer(tiny_repository, start_timeout_s=0.1).start()


def test_a_host_that_is_none_is_named(tiny_repository):
    with pytest.raises(EmbeddedServerError, match=r"cannot listen on 'nowhere\.invalid'"):
        EmbeddedServer(tiny_repository, host="nowhere.invalid").start()


def test_without_the_extra_it_says_what_to_install(tiny_repository, monkeypatch):
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(
        EmbeddedServerError,
        match=r"needs onnxruntime and openvino, not installed: pip install 'gliogate\[embedded\]",
    ):
        EmbeddedServer(tiny_repository).start()


def test_another_platform_is_refused(tiny_repository, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")

    with pytest.raises(EmbeddedServerError, match="Linux on x86_64 only, this is Linux on aarch64"):
        EmbeddedServer(tiny_repository).start()


def test_a_python_without_libpython_is_refused(tiny_repository, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_config_var", lambda _: None)
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)

    with pytest.raises(EmbeddedServerError, match=r"needs libpython3\.1\d\.so\.1\.0, and this Python .* has none"):
        EmbeddedServer(tiny_repository).start()


def test_a_triton_that_dies_is_noticed_and_leaves_nothing(tiny_repository):
    with EmbeddedServer(tiny_repository) as server:
        identity = server_id(server)
        os.kill(pid_of(identity, "tritonserver"), signal.SIGKILL)
        wait_for(lambda: not processes(identity))
        with pytest.raises(EmbeddedServerError, match=r"was killed by SIGKILL: .*; its log is (\S+)") as error:
            server.check()
        assert Path(str(error.value).rpartition(" ")[2]).read_text()
    assert traces(identity) == []


@pytest.mark.parametrize("instance", ["brain_tumor_0_1", "tumor_detector_0_0"])
def test_a_process_of_a_model_that_dies_is_noticed_and_named(tiny_repository, instance):
    with EmbeddedServer(tiny_repository) as server:
        server.check()
        stub = next(pid for pid, name in stubs_of(server_id(server)).items() if name == instance)
        os.kill(stub, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while not has_died(stub):
            assert time.monotonic() < deadline
        with pytest.raises(EmbeddedServerError, match=f"lost the process of {instance}; its log is"):
            server.check()


def test_a_guard_that_is_killed_takes_triton_with_it(tiny_repository):
    server = EmbeddedServer(tiny_repository)
    server.start()
    identity = server_id(server)
    os.kill(pid_of(identity, "guard.py"), signal.SIGKILL)
    server.stop()

    wait_until_gone(identity)


def test_an_owner_that_is_killed_leaves_nothing(tiny_repository):
    script = (
        "import sys, time; from gliogate.embedded import EmbeddedServer\n"
        "server = EmbeddedServer(sys.argv[1]); server.start(); print(server.http_url, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, tiny_repository], stdout=subprocess.PIPE, text=True) as owner:
        url = owner.stdout.readline().strip()
        try:
            with urllib.request.urlopen(f"{url}/v2") as response:
                identity = json.load(response)["name"]
            assert len(processes(identity)) >= 6  # the guard, Triton, and a stub for each of the four instances
        finally:
            owner.kill()

    wait_until_gone(identity)
