"""TensorRT's engines: where pods keep them, and the container that does, run here with pods that start together."""

import contextlib
import http.server
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from support.waiting import wait_for


@pytest.fixture
def keeper(pod):
    """The container that brings engines to the claim, of a release."""

    def keeper(**values):
        spec, _ = pod("gpu", **values)
        return spec["initContainers"][0]

    return keeper


@pytest.fixture
def metrics_page():
    """The address of what answers as soon as the function beside it is called."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    yield f"http://127.0.0.1:{server.server_port}/README.md", thread.start
    if thread.is_alive():
        server.shutdown()
    server.server_close()


@pytest.fixture
def start(keeper, metrics_page, tmp_path):
    """Starts the container of a pod, which has a folder of its own; returns the folder and the process."""
    started = []

    def start(name: str, kept: Path):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        shell, flags, script, own, *_ = keeper()["command"]
        process = subprocess.Popen(
            [shell, flags, script, own, folder, kept, metrics_page[0]],
            env=os.environ | {"HOSTNAME": name},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        wait_for((folder / ".begun").exists)
        return folder, process

    yield start
    for process in started:
        with process, contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def kept(tmp_path):
    """The claim."""
    folder = tmp_path / "kept"
    folder.mkdir()
    return folder


def end(process: subprocess.Popen[str]) -> str:
    """Ends a container as Kubernetes does; returns what it said."""
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    return said


def visible(folder: Path) -> dict[str, str]:
    files = [each for each in folder.iterdir() if each.is_file()]
    return {each.name: each.read_text() for each in files if not each.name.startswith(".")}


def test_it_runs_before_triton_and_as_long(pod, keeper):
    _, triton = pod("gpu")
    container = keeper()

    assert container["restartPolicy"] == "Always"
    assert container["image"] == triton["image"]
    (probe,) = [container["startupProbe"]["exec"]["command"]]
    assert probe[-1] == f"{container['command'][4]}/.begun"
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert container["command"][4:6] == list(mounts.values())
    assert {"name": "engines", "mountPath": mounts["engines"]} in triton["volumeMounts"]
    assert "kept-engines" not in [each["name"] for each in triton["volumeMounts"]]


def test_it_comes_before_the_users_own(pod):
    spec, _ = pod("gpu", initContainers=[{"name": "first", "image": "registry.example/first:1"}])

    assert [each["name"] for each in spec["initContainers"]] == ["engine-keeper", "first"]


def test_cupys_kernels_are_beside_the_engines(pod):
    def folders(*arguments, **values):
        return [each["value"] for each in pod(*arguments, **values)[1]["env"] if each["name"] == "CUPY_CACHE_DIR"]

    assert folders("gpu") == ["/var/cache/tensorrt/cupy"]
    assert folders("mig", engineCache__mountPath="/cache") == ["/cache/cupy"]
    assert folders("gpu", engineCache__enabled=False) == folders("cpu") == []


def test_the_chart_makes_a_claim_that_pods_share(render, pod):
    claim = {
        "enabled": True,
        "storageClassName": "files",
        "size": "2Gi",
        "annotations": {"helm.sh/resource-policy": "keep"},
    }
    values = {"engineCache__claim": claim}

    (made,) = [each for each in render(**values) if each["kind"] == "PersistentVolumeClaim"]
    assert made["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert made["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "files",
        "resources": {"requests": {"storage": "2Gi"}},
    }
    spec, _ = pod(**values)
    (volume,) = [each for each in spec["volumes"] if each["name"] == "kept-engines"]
    assert volume["persistentVolumeClaim"]["claimName"] == made["metadata"]["name"] == "gliogate-engines"
    assert spec["initContainers"][0]["name"] == "engine-keeper"
    kinds = {each["kind"] for each in render("cpu", **values)}
    assert "PersistentVolumeClaim" not in kinds


def test_a_claim_of_no_class_gets_the_default_one(render):
    """An empty name would be another thing: no class at all."""
    manifests = render(engineCache__claim={"enabled": True})

    (made,) = [each for each in manifests if each["kind"] == "PersistentVolumeClaim"]
    assert "storageClassName" not in made["spec"]


@pytest.mark.parametrize("values", [{"engineCache__existingClaim": ""}, {"engineCache__enabled": False}])
def test_without_a_claim_there_is_none(pod, values):
    spec, _ = pod("gpu", **values)

    assert "initContainers" not in spec
    assert "kept-engines" not in [each["name"] for each in spec["volumes"]]


def test_other_models_have_other_engines(keeper):
    """ONNX Runtime finds an engine by names, not by weights."""

    def folder(**values):
        (mount,) = [each for each in keeper(**values)["volumeMounts"] if each["name"] == "kept-engines"]
        return mount["subPath"]

    oci = {"source": "oci", "oci": {"reference": "registry.example/models:1"}}
    changes = [
        {},
        {"image__digest": f"sha256:{64 * 'a'}"},
        {"models": oci},
        {"models": oci | {"oci": {"reference": "registry.example/models:2"}}},
        {"models": {"source": "s3", "s3": {"url": "s3://bucket/models"}}},
    ]
    assert len({folder(**each) for each in changes}) == len(changes)
    # What has nothing to do with the models starts no new ones.
    assert folder() == folder(replicas=5, triton__logVerbose=1)


def test_what_pods_build_together_is_kept_once_and_whole(start, kept, metrics_page):
    pods = [start(f"pod-{index}", kept) for index in range(3)]
    for index, (folder, _) in enumerate(pods):
        (folder / "network.engine").write_text(100_000 * f"{index}")
        (folder / f"of-gpu-{index}.engine").write_text("engine")
    assert not visible(kept)  # Triton still builds.

    metrics_page[1]()
    # Each says so behind the last thing that it does; whoever is ended before does not.
    for index, (_, process) in enumerate(pods):
        assert any(f"kept of-gpu-{index}.engine" in line for line in process.stdout)
    wait_for(lambda: len(visible(kept)) == 4)
    for _, process in pods:
        end(process)

    assert visible(kept)["network.engine"] in [100_000 * f"{index}" for index in range(3)]
    assert not [each for each in kept.iterdir() if each.name.startswith(".")]


def test_a_pod_starts_with_what_is_kept_and_leaves_it_as_it_is(start, kept, metrics_page):
    (kept / "network.engine").write_text("kept")
    (kept / ".pod-9.part").write_text("hal")  # Of a pod that was killed.
    before = (kept / "network.engine").stat()

    folder, process = start("pod", kept)
    assert visible(folder) == {"network.engine": "kept"}
    (folder / "more.engine").write_text("more")
    metrics_page[1]()
    wait_for((kept / "more.engine").exists)
    end(process)
    assert (kept / "network.engine").stat().st_mtime_ns == before.st_mtime_ns


def test_one_that_is_started_again_touches_nothing_that_triton_may_be_reading(start, kept, metrics_page):
    folder, process = start("pod", kept)
    os.killpg(process.pid, signal.SIGKILL)
    (kept / "network.engine").write_text("kept meanwhile")
    (folder / "network.engine").write_text("own")
    (folder / "more.engine").write_text("more")

    _, process = start("pod", kept)
    metrics_page[1]()
    wait_for((kept / "more.engine").exists)
    end(process)

    assert visible(folder) == {"network.engine": "own", "more.engine": "more"}
    assert visible(kept) == {"network.engine": "kept meanwhile", "more.engine": "more"}


def test_cupys_kernels_are_kept_when_the_pod_ends_and_half_ones_are_not(start, kept, metrics_page):
    """They are compiled when the gate first needs them, after all models were loaded."""
    folder, process = start("pod", kept)
    (folder / "network.engine").write_text("own")
    metrics_page[1]()
    wait_for((kept / "network.engine").exists)
    (folder / "cupy" / "0a.cubin").write_text("kernel")
    (folder / "cupy" / "tmpq3x").write_text("ker")  # CuPy's own, until it is whole.

    assert "kept cupy/0a.cubin\n" in end(process)

    assert visible(kept / "cupy") == {"0a.cubin": "kernel"}
    another, process = start("another", kept)
    assert visible(another / "cupy") == {"0a.cubin": "kernel"}
    end(process)


def test_of_a_triton_that_never_loaded_its_models_nothing_is_kept(start, kept):
    folder, process = start("pod", kept)
    (folder / "network.engine").write_text("hal")

    end(process)

    assert visible(kept) == {}


def test_a_claim_that_takes_nothing_costs_the_pod_nothing(start, tmp_path, metrics_page):
    folder, process = start("pod", tmp_path / "absent")
    (folder / "network.engine").write_text("own")

    metrics_page[1]()
    said = [process.stdout.readline() for _ in range(2)]

    assert "cannot keep network.engine\n" in said
    assert process.poll() is None
    end(process)
