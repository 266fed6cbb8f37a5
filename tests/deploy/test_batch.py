"""The batch Job: its pods' command and arguments, run here against a real server."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.tiny_networks import slices

DONE, FAILED, UNUSABLE, TRY_AGAIN = 0, 1, 2, 75
NOBODY = "localhost:9"


@pytest.fixture(scope="module")
def batch(render):
    """Renders the Job of a scenario; returns its spec, that of its pods and their container."""

    def batch(scenario="batch", **values):
        (job,) = [each for each in render(scenario, **values) if each["kind"] == "Job"]
        pod = job["spec"]["template"]["spec"]
        return job["spec"], pod, pod["containers"][0]

    return batch


@pytest.fixture
def start(batch, tmp_path):
    """Starts a pod of the Job: its container's command and arguments, but for folders and the server's address."""
    folders = {"/input": str(tmp_path / "input"), "/output": str(tmp_path / "output")}
    (tmp_path / "input").mkdir()

    def start(url, *, shard=0, **values):
        _, _, container = batch(**{"batch__shards": 1} | values)
        arguments = [f"--url={url}" if each.startswith("--url=") else each for each in container["args"]]
        return subprocess.Popen(
            [sys.executable, *container["command"][1:], *(folders.get(each, each) for each in arguments)],
            env=os.environ
            | {
                "JOB_COMPLETION_INDEX": str(shard),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "TMPDIR": str(tmp_path),
            },
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def run(start):
    """Runs a pod of the Job to its end; returns its exit code and its log."""

    def run(*arguments, **values):
        process = start(*arguments, **values)
        log, _ = process.communicate(timeout=250)
        return process.returncode, [json.loads(line) for line in log.splitlines()]

    return run


def make_study(folder, name, level=0.75):
    """Three slices of which one has tumor, in its left 192 columns where the level is 0.75."""
    np.save(folder / f"{name}.npy", slices(0, level, 0))


def results(output):
    """What is kept of each study, by name."""
    return {str(path.parent.relative_to(output)): json.loads(path.read_text()) for path in output.rglob("result.json")}


def test_a_study_that_fails_is_recorded_and_costs_no_other(run, tiny_server, tmp_path):
    studies = tmp_path / "input"
    make_study(studies, "a")
    (studies / "broken.nii.gz").write_bytes(b"no NIfTI")
    make_study(studies, "c", level=0)
    (studies / ".hidden").touch()
    (studies / "lost+found").mkdir()

    code, log = run(tiny_server.url)

    assert code == FAILED
    assert log[-1] == {"shard": 0, "studies": 3, "analyzed": 2, "failed": 1, "done_before": 0, "error": None}
    kept = results(tmp_path / "output")
    assert kept.keys() == {"a.npy", "broken.nii.gz", "c.npy"}
    assert "broken.nii.gz" in kept["broken.nii.gz"]["error"]
    assert kept["broken.nii.gz"]["files"] == []
    for name, tumor in (("a.npy", True), ("c.npy", False)):
        assert kept[name]["error"] is None
        assert kept[name]["found"][0]["tumor"] is tumor
        # As the scenario asks: --format=nifti,csv.
        assert kept[name]["files"] == [f"files/{name[0]}_mask.nii.gz", f"files/{name[0]}_slices.csv"]
        assert all((tmp_path / "output" / name / file).stat().st_size for file in kept[name]["files"])

    (studies / "broken.nii.gz").unlink()
    make_study(studies, "d")
    code, log = run(tiny_server.url)
    assert code == DONE
    assert log[-1] == {"shard": 0, "studies": 3, "analyzed": 1, "failed": 0, "done_before": 2, "error": None}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_done_before_a_kill_is_not_done_again(number, start, run, tiny_server, tmp_path):
    names = [f"study{index}" for index in range(5)]
    for name in names:
        make_study(tmp_path / "input", name)

    process = start(tiny_server.url)
    assert process.stdout.readline()
    process.send_signal(number)
    # Its analysis of the next study goes on where nobody could tell it to end.
    process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGKILL, 128 + signal.SIGTERM)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "output").rglob("result.json")}
    assert 1 <= len(before) < len(names)
    # As if it had been killed while it wrote another.
    torn = tmp_path / "output" / "study4.npy"
    torn.mkdir(exist_ok=True)
    (torn / "result.json").write_text('{"study": "stu')

    code, log = run(tiny_server.url)

    assert code == DONE
    assert log[-1]["done_before"] == len(before)
    assert log[-1]["analyzed"] == len(names) - len(before)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    kept = results(tmp_path / "output")
    assert kept.keys() == {f"{name}.npy" for name in names}
    for name, result in kept.items():
        assert result["error"] is None
        # Nothing half-written is left.
        folder = tmp_path / "output" / name
        here = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert here == {*result["files"], "result.json"}


def test_shards_share_the_studies(run, tiny_server, tmp_path):
    for index in range(4):
        (tmp_path / "input" / f"patient{index}").mkdir()
        make_study(tmp_path / "input" / f"patient{index}", "head", level=0)

    shares = []
    for shard in range(2):
        values = {"batch__shards": 2, "batch__studies": "*/*", "batch__output__rename": False}
        code, log = run(tiny_server.url, shard=shard, **values)
        assert code == DONE
        shares.append(log[-1]["analyzed"])

    assert sum(shares) == 4
    assert results(tmp_path / "output").keys() == {f"patient{index}/head.npy" for index in range(4)}


def test_without_a_server_another_try_may_go_on(run, tmp_path):
    make_study(tmp_path / "input", "a")

    code, log = run(NOBODY, batch__readyTimeoutS=1)

    assert code == TRY_AGAIN
    assert NOBODY in log[-1]["error"]
    assert results(tmp_path / "output") == {}


def test_an_input_without_studies_is_refused(run):
    code, log = run(NOBODY)

    assert code == UNUSABLE
    assert "no study is named *" in log[-1]["error"]


def test_the_job_gives_each_shard_a_pod_and_tries_again_only_what_may_succeed(batch, chart_folder):
    job, pod, container = batch()

    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 40, 40)
    assert container["args"][0].strip() == (chart_folder / "files" / "batch.py").read_text().strip()
    ignored, failed = job["podFailurePolicy"]["rules"]
    assert (ignored["action"], failed["action"]) == ("Ignore", "FailIndex")
    assert failed["onExitCodes"] == {"containerName": "batch", "operator": "In", "values": [FAILED, UNUSABLE]}
    assert job["backoffLimitPerIndex"] == 3
    assert pod["restartPolicy"] == "Never"
    assert batch(batch__parallelism=100)[0]["parallelism"] == 40


def test_the_job_asks_every_pod_of_the_server_and_reads_only_its_input(batch):
    _, pod, container = batch()

    assert "--url=dns:///gliogate-headless.imaging.svc:8001" in container["args"]
    volumes = {each["name"]: each for each in pod["volumes"]}
    # Kubernetes changes group and mode of what is in a volume that is not read-only itself.
    assert volumes["input"]["persistentVolumeClaim"] == {"claimName": "studies", "readOnly": True}
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    assert mounts["input"] == {"name": "input", "mountPath": "/input", "readOnly": True}
    assert mounts["output"] == {"name": "output", "mountPath": "/output", "subPath": "gliogate"}


@pytest.mark.parametrize("claim", [{"claimName": "all"}, {"claimName": "all", "readOnly": True}])
def test_a_claim_of_studies_and_results_is_one_volume(claim, batch):
    """Two of one claim may keep a pod from starting (https://github.com/kubernetes/kubernetes/issues/132921)."""
    _, pod, container = batch(
        batch__input={"volume": {"persistentVolumeClaim": claim}, "subPath": "studies"},
        batch__output={"volume": {"persistentVolumeClaim": {"claimName": "all"}}, "subPath": "results"},
    )

    assert [each for each in pod["volumes"] if "persistentVolumeClaim" in each] == [
        {"name": "input", "persistentVolumeClaim": {"claimName": "all"}}
    ]
    mounts = [each for each in container["volumeMounts"] if each["name"] == "input"]
    assert [(each["mountPath"], each["subPath"], each.get("readOnly", False)) for each in mounts] == [
        ("/input", "studies", True),
        ("/output", "results", False),
    ]


def test_a_bucket_is_what_a_csi_driver_mounts(batch):
    bucket = {"csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": {"bucketName": "studies"}}}
    results = {"volume": {"persistentVolumeClaim": {"claimName": "results"}}, "rename": False}
    values = {"enabled": True, "image": "registry.example/gliogate-client:0.1.0", "output": results}
    _, pod, container = batch("minimal", batch=values | {"input": {"volume": bucket}})

    (volume,) = [each for each in pod["volumes"] if each["name"] == "input"]
    assert volume == {"name": "input", "csi": bucket["csi"] | {"readOnly": True}}
    assert "--no-rename" in container["args"]


def test_with_tls_the_job_shows_a_certificate(batch):
    _, pod, container = batch(
        tls={"enabled": True, "mutual": True, "existingSecret": "server"}, batch__tlsSecret="gliogate-client"
    )

    assert "--certificates=/etc/gliogate/tls" in container["args"]
    assert [each["secret"]["secretName"] for each in pod["volumes"] if each["name"] == "tls"] == ["gliogate-client"]


def test_another_run_is_another_job(render):
    def name(**values):
        return next(each["metadata"]["name"] for each in render("batch", **values) if each["kind"] == "Job")

    assert name() == name(replicas=3)
    assert len({name(), name(batch__run="2"), name(batch__shards=7)}) == 3
    # The pods' own names end in an index.
    assert len(name(fullnameOverride="r" * 53)) + len("-99999") <= 63
