"""The batch Job: its pods' command and arguments, run here against a real server."""

import json
import os
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
    (tmp_path / "input").mkdir()
    folders = {"/input": str(tmp_path / "input"), "--output=/output": f"--output={tmp_path / 'output'}"}

    def start(url, *, run="job-1", workers=1, **values):
        _, _, container = batch(batch__workers=workers, **values)
        program, *words = (
            f"--url={url}" if each.startswith("--url=") else folders.get(each, each).replace("$(RUN)", run)
            for each in [*container["command"], *container["args"]]
        )
        return subprocess.Popen(
            [Path(sys.executable).with_name(program), *words],
            # As long as Slurm's and pytest's may be: too long for a socket in it.
            env=os.environ | {"TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def run(start):
    """Runs a pod of the Job to its end; returns its exit code, its log's records and what it told beside."""

    def run(*arguments, **values):
        process = start(*arguments, **values)
        log, told = process.communicate(timeout=250)
        return process.returncode, [json.loads(line) for line in log.splitlines()], told

    return run


def make_study(folder, name, level=0.75):
    """Three slices of which one has tumor, in its left 192 columns where the level is 0.75."""
    np.save(folder / f"{name}.npy", slices(min(level, 0.375), level, min(level, 0.375)))


def results(output):
    """What is kept of each study, by name."""
    return {str(path.parent.relative_to(output)): json.loads(path.read_text()) for path in output.glob("*/result.json")}


def test_a_pod_does_the_studies_and_the_next_job_those_that_failed(run, tiny_server, tmp_path):
    studies = tmp_path / "input"
    make_study(studies, "a")
    (studies / "broken.nii.gz").write_bytes(b"no NIfTI")
    make_study(studies, "c", level=0)

    code, log, told = run(tiny_server.url)

    assert code == FAILED
    assert {line["study"]: line["verdict"] for line in log} == {
        "a.npy": "tumor",
        "broken.nii.gz": None,
        "c.npy": "no tumor",
    }
    assert "3 studies, 1 with tumor, 1 no tumor, 1 failed" in told
    kept = results(tmp_path / "output")
    assert "broken.nii.gz" in kept["broken.nii.gz"]["error"]
    # As the scenario asks: --format=nifti,csv.
    assert kept["a.npy"]["files"] == ["files/a_mask.nii.gz", "files/a_slices.csv"]
    # What failed is left to another Job, also by pods that take another's place.
    assert run(tiny_server.url)[:2] == (FAILED, [])

    (studies / "broken.nii.gz").unlink()
    make_study(studies, "d")
    code, log, _ = run(tiny_server.url, run="job-2", batch__output__rename=False)
    assert (code, [line["study"] for line in log]) == (DONE, ["d.npy"])


def test_pods_share_the_studies(start, tiny_server, tmp_path):
    for index in range(6):
        (tmp_path / "input" / f"patient{index}").mkdir()
        make_study(tmp_path / "input" / f"patient{index}", "head", level=0)

    pods = [start(tiny_server.url, batch__studies="*/*") for _ in range(2)]
    logs = [pod.communicate(timeout=250)[0] for pod in pods]

    assert [pod.returncode for pod in pods] == [DONE, DONE]
    studies = [json.loads(line)["study"] for log in logs for line in log.splitlines()]
    assert sorted(studies) == [f"patient{index}/head.npy" for index in range(6)]


def test_without_a_server_another_try_may_go_on(run, tmp_path):
    make_study(tmp_path / "input", "a")

    code, _, told = run(NOBODY, batch__readyTimeoutS=1)

    assert code == TRY_AGAIN
    assert NOBODY in told
    assert results(tmp_path / "output") == {}


def test_an_input_without_studies_is_refused(run):
    code, _, told = run(NOBODY)

    assert code == UNUSABLE
    assert "no study is named *" in told


def test_the_job_tries_again_only_what_may_succeed(batch):
    job, pod, container = batch()

    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 40, 40)
    ignored, failed = job["podFailurePolicy"]["rules"]
    assert (ignored["action"], failed["action"]) == ("Ignore", "FailIndex")
    assert failed["onExitCodes"] == {"containerName": "batch", "operator": "In", "values": [FAILED, UNUSABLE]}
    assert job["backoffLimitPerIndex"] == 3
    assert pod["restartPolicy"] == "Never"
    (name,) = [each for each in container["env"] if each["name"] == "RUN"]
    assert name["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['batch.kubernetes.io/job-name']"


def test_kueue_sees_the_job_and_none_of_its_pods(render):
    (job,) = [each for each in render("batch", batch__labels={"team": "imaging"}) if each["kind"] == "Job"]

    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert job["metadata"]["labels"]["team"] == "imaging"
    assert job["metadata"]["labels"]["app.kubernetes.io/component"] == "batch"
    assert not {"kueue.x-k8s.io/queue-name", "team"} & set(job["spec"]["template"]["metadata"]["labels"])
    # Kueue's webhook suspends it; an upgrade that said so would suspend it anew.
    assert "suspend" not in job["spec"]


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

    assert [each for each in container["args"] if "/tls/" in each] == [
        "--ca=/etc/gliogate/tls/ca.crt",
        "--cert=/etc/gliogate/tls/tls.crt",
        "--key=/etc/gliogate/tls/tls.key",
    ]
    assert [each["secret"]["secretName"] for each in pod["volumes"] if each["name"] == "tls"] == ["gliogate-client"]


def test_another_run_is_another_job(render):
    def name(**values):
        return next(each["metadata"]["name"] for each in render("batch", **values) if each["kind"] == "Job")

    assert name() == name(replicas=3)
    assert len({name(), name(batch__run="2"), name(batch__pods=7)}) == 3
    # The pods' own names end in an index.
    assert len(name(fullnameOverride="r" * 53)) + len("-99999") <= 63
