"""What a cluster's own ways ask of the chart: registries, queues, balancers, schedulers, disks, further objects."""

import pytest
from helm_python import HelmRenderError

QUEUE = {"kueue.x-k8s.io/queue-name": "batch"}
MIRROR = "mirror.example:5000/proxy"


def of_kind(manifests, kind):
    return [each for each in manifests if each["kind"] == kind]


def images(manifests):
    """Every image of every pod."""
    for each in manifests:
        spec = each["spec"].get("template", {"spec": each["spec"]})["spec"] if "spec" in each else {}
        for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
            yield container["image"]
        for volume in spec.get("volumes", []):
            if "image" in volume:
                yield volume["image"]["reference"]


@pytest.mark.parametrize(
    ("repository", "found"),
    [
        ("registry.example/team/gliogate-triton", f"{MIRROR}/team/gliogate-triton"),
        ("localhost/gliogate-triton", f"{MIRROR}/gliogate-triton"),
        ("registry:5000/gliogate-triton", f"{MIRROR}/gliogate-triton"),
        ("team/gliogate-triton", f"{MIRROR}/team/gliogate-triton"),
        ("gliogate-triton", f"{MIRROR}/gliogate-triton"),
    ],
)
def test_a_registry_takes_the_place_of_the_one_that_is_named(repository, found, pod):
    _, triton = pod(image__repository=repository, global__imageRegistry=MIRROR)

    assert triton["image"] == f"{found}:0.1.0"


def test_one_registry_serves_all_images(render):
    """The batch's container has its own line in its own template."""
    values = {
        "smokeTest__image": "registry.example/gliogate-client:0.1.0",
        "loadTest": {"enabled": True, "image": "registry.example/gliogate-loadtest:0.1.0"},
        "models": {"source": "oci", "oci": {"reference": "registry.example/gliogate-models@sha256:abc"}},
    }

    found = list(images(render("gpu", **values, global__imageRegistry=MIRROR)))

    assert len(found) == 5
    assert {each.partition("/gliogate")[0] for each in found} == {MIRROR}
    digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    assert found.count(f"{MIRROR}/gliogate-triton@{digest}") == 2
    assert f"{MIRROR}/gliogate-models@sha256:abc" in found


def test_kueue_holds_back_jobs_and_not_the_server(render):
    """It puts a Deployment's label on its pods: https://github.com/kubernetes-sigs/kueue/pull/5251"""
    manifests = render(
        "loadtest", commonLabels=QUEUE | {"team": "imaging"}, smokeTest__image="i", smokeTest__tlsSecret="s"
    )

    labels = {(each["kind"], each["metadata"]["name"]): each["metadata"]["labels"] for each in manifests}
    queued = {kind for (kind, _), found in labels.items() if QUEUE.items() <= found.items()}
    assert queued == {"Job"}
    for each in manifests:
        template = each.get("spec", {}).get("template", {"metadata": {}})
        assert not QUEUE.items() <= template["metadata"].get("labels", {}).items()
    assert all(found["team"] == "imaging" for found in labels.values())
    # Who asks for it has it.
    (server,) = of_kind(render("loadtest", podLabels=QUEUE), "Deployment")
    assert QUEUE.items() <= server["spec"]["template"]["metadata"]["labels"].items()


def test_one_job_may_have_a_queue(render):
    manifests = render("loadtest", loadTest__labels=QUEUE)

    (job,) = of_kind(manifests, "Job")
    assert QUEUE.items() <= job["metadata"]["labels"].items()
    assert "kueue.x-k8s.io/queue-name" not in job["spec"]["template"]["metadata"]["labels"]
    (server,) = of_kind(manifests, "Deployment")
    assert "kueue.x-k8s.io/queue-name" not in server["metadata"]["labels"]


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ({}, "9216Mi"),
        ({"temporaryStorage": "500M"}, "5597Mi"),
        ({"engineCache__enabled": False}, "5120Mi"),
        ({"scenario": "cpu"}, "5120Mi"),
        ({"resources__limits": {"ephemeral-storage": "20Gi"}}, "20Gi"),
    ],
)
def test_what_a_pod_may_write_is_counted(values, limit, pod):
    _, triton = pod(**values)

    assert triton["resources"]["limits"]["ephemeral-storage"] == limit
    # Without a request it would be the limit.
    assert triton["resources"]["requests"].get("ephemeral-storage", "1Gi") == "1Gi"


def services(render, **values):
    return {each["metadata"]["name"]: each["spec"] for each in of_kind(render(**values), "Service")}


def test_a_balancer_is_told_who_makes_it_and_who_may_call(render):
    service = {
        "type": "LoadBalancer",
        "loadBalancerClass": "internal.example/balancer",
        "loadBalancerSourceRanges": ["10.0.0.0/8", "fd00::/8"],
        "externalTrafficPolicy": "Local",
        "nodePort": 30801,
    }
    found = services(render, service=service, networkPolicy__clients=[{"ipBlock": {"cidr": "10.0.0.0/8"}}])

    for key in service.keys() - {"nodePort"}:
        assert found["gliogate"][key] == service[key]
        assert key == "type" or key not in found["gliogate-headless"]
    assert found["gliogate"]["ports"][0]["nodePort"] == 30801
    assert "nodePort" not in found["gliogate-headless"]["ports"][0]


def test_both_services_have_both_families_and_grpc_listens_on_both(render, pod):
    service = {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"]}

    for spec in services(render, service=service).values():
        assert {key: spec[key] for key in service} == service
    _, triton = pod(service=service)
    # Tried with Triton 2.51: gRPC takes IPv4 there, too, and HTTP does not.
    assert {"--grpc-address=[::]", "--http-address=127.0.0.1", "--metrics-address=0.0.0.0"} <= set(triton["args"])
    assert "--grpc-address=[::]" in pod(service={"ipFamilyPolicy": "RequireDualStack"})[1]["args"]


def test_traffic_stays_near(render):
    found = services(render, service={"trafficDistribution": "PreferClose", "internalTrafficPolicy": "Cluster"})

    assert found["gliogate"]["trafficDistribution"] == "PreferClose"
    assert found["gliogate"]["internalTrafficPolicy"] == "Cluster"
    # Its clients get addresses, and choose themselves.
    assert "trafficDistribution" not in found["gliogate-headless"]


def test_what_nobody_asked_for_is_left_to_kubernetes(render):
    for spec in services(render).values():
        assert spec.keys() <= {"type", "clusterIP", "selector", "ports"}


def test_keda_knows_what_to_do_without_prometheus(render):
    fallback = {"failureThreshold": 3, "replicas": 4, "behavior": "currentReplicasIfHigher"}

    (scaled,) = of_kind(render("keda", autoscaling__keda__fallback=fallback), "ScaledObject")

    assert scaled["spec"]["fallback"] == fallback
    assert "fallback" not in of_kind(render("keda"), "ScaledObject")[0]["spec"]


@pytest.mark.parametrize(
    ("values", "annotations"),
    [
        ({}, {}),
        ({"paused": True}, {"autoscaling.keda.sh/paused": "true"}),
        ({"pausedReplicas": 0}, {"autoscaling.keda.sh/paused-replicas": "0"}),
        ({"pausedReplicas": 3}, {"autoscaling.keda.sh/paused-replicas": "3"}),
    ],
)
def test_scaling_may_be_paused(values, annotations, render):
    (scaled,) = of_kind(render("keda", autoscaling__keda=values), "ScaledObject")

    assert scaled["metadata"].get("annotations", {}) == annotations


def test_another_scheduler_places_the_server(render):
    pods = [
        each["spec"]["template"]["spec"]
        for each in render("loadtest", schedulerName="volcano")
        if "spec" in each and "template" in each["spec"]
    ]

    assert [each.get("schedulerName") for each in pods if each["containers"][0]["name"] == "triton"] == ["volcano"]
    assert [each.get("schedulerName") for each in pods if each["containers"][0]["name"] == "locust"] == [None]


def test_further_objects_know_the_release(render):
    as_object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}}
    as_text = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "gliogate.fullname" . }}-text
  labels: {{- include "gliogate.labels" . | nindent 4 }}
"""

    made = of_kind(render(extraObjects=[as_object, as_text]), "ConfigMap")

    assert [each["metadata"]["name"] for each in made] == ["gliogate-more", "gliogate-text"]
    assert made[1]["metadata"]["labels"]["app.kubernetes.io/name"] == "gliogate"


def test_a_text_that_is_no_template_is_refused(render):
    with pytest.raises(HelmRenderError):
        render(extraObjects=["{{ .Values"])
