"""What an attacker finds: Pod Security "restricted", and a network that denies."""

from itertools import product

import pytest

ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pod_specs(manifests):
    for each in manifests:
        if each["kind"] == "Pod":
            yield each["spec"]
        elif each["kind"] in ("Deployment", "Job"):
            yield each["spec"]["template"]["spec"]


def test_pods_pass_pod_security_restricted(scenario, render):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    for spec in pod_specs(render(scenario)):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all(set(volume) - {"name"} <= ALLOWED_VOLUMES for volume in spec.get("volumes", []))
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in context
            assert not [port for port in container.get("ports", []) if "hostPort" in port]


def test_pods_have_less_than_restricted_allows(scenario, render):
    manifests = render(scenario)
    for spec in pod_specs(manifests):
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert "memory" in container["resources"]["limits"]
    (account,) = [each for each in manifests if each["kind"] == "ServiceAccount"]
    assert account["automountServiceAccountToken"] is False


def test_every_pod_has_a_network_policy(scenario, render):
    manifests = render(scenario)
    selectors = [each["spec"]["podSelector"]["matchLabels"] for each in manifests if each["kind"] == "NetworkPolicy"]
    pods = [each for each in manifests if each["kind"] == "Pod"]
    pods += [each["spec"]["template"] for each in manifests if each["kind"] in ("Deployment", "Job")]

    for pod in pods:
        labels = pod["metadata"]["labels"]
        assert any(selector.items() <= labels.items() for selector in selectors), labels


def test_no_manifest_holds_a_secret(scenario, render):
    assert not [each for each in render(scenario) if each["kind"] == "Secret"]


def network_policy(render, *arguments, **values):
    (policy,) = [each for each in render(*arguments, **values) if each["kind"] == "NetworkPolicy"]
    return policy["spec"]


def test_the_network_denies_all_but_named_peers(render):
    policy = network_policy(render)

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    clients, monitoring = policy["ingress"]
    assert clients == {
        "from": [{"podSelector": {"matchLabels": {"gliogate-client": "true"}}}],
        "ports": [{"port": "grpc"}],
    }
    assert monitoring["ports"] == [{"port": "metrics"}]
    assert policy["egress"] == []


def test_clients_elsewhere_are_named(render):
    radiology = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "radiology"}}}

    clients = network_policy(render, networkPolicy__clients=[radiology])["ingress"][0]

    assert radiology in clients["from"]


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://collector.observability:4318/v1/traces", 4318),
        ("https://collector.example/v1/traces", 443),
        ("http://collector.example/v1/traces", 80),
    ],
)
def test_traces_get_out_and_nothing_else(url, port, render):
    dns, collector = network_policy(render, tracing__url=url)["egress"]

    # 5353 is OpenShift's.
    assert {(each["port"], each["protocol"]) for each in dns["ports"]} == set(product((53, 5353), ("UDP", "TCP")))
    assert collector == {"ports": [{"port": port, "protocol": "TCP"}]}


@pytest.mark.parametrize(
    ("models", "port"),
    [
        ({"source": "s3", "s3": {"url": "s3://bucket/models"}}, 443),
        ({"source": "s3", "s3": {"url": "s3://https://objects.example/bucket/models"}}, 443),
        ({"source": "s3", "s3": {"url": "s3://http://minio.storage.svc:9000/bucket/models"}}, 9000),
        ({"source": "s3", "s3": {"url": "s3://10.0.0.7:9000/bucket/models"}}, 9000),
        ({"source": "gcs", "gcs": {"url": "gs://bucket/models"}}, 443),
        ({"source": "azure", "azure": {"url": "as://account/container/models"}}, 443),
    ],
)
def test_models_get_in_from_an_object_store(models, port, render):
    _, store, *_ = network_policy(render, models=models)["egress"]

    assert store == {"ports": [{"port": port, "protocol": "TCP"}]}


@pytest.mark.parametrize(
    ("source", "secret", "addresses"),
    [
        # https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
        ("s3", "", {"169.254.170.23/32": 80, "fd00:ec2::23/128": 80}),
        ("s3", "gliogate-models", {}),
        # https://cloud.google.com/kubernetes-engine/docs/how-to/network-policy
        ("gcs", "", {"169.254.169.252/32": 988, "169.254.169.254/32": 80}),
        ("gcs", "gliogate-models", {}),
        # The secret may say that it is a managed identity.
        ("azure", "gliogate-models", {"169.254.169.254/32": 80}),
    ],
)
def test_a_service_account_gets_its_credentials_and_a_secret_needs_none(source, secret, addresses, render):
    urls = {"s3": "s3://bucket/models", "gcs": "gs://bucket/models", "azure": "as://account/container"}
    models = {"source": source, source: {"url": urls[source], "credentialsSecret": secret}}

    _, _, *rules = network_policy(render, models=models)["egress"]

    found = {rule["to"][0]["ipBlock"]["cidr"]: rule["ports"] for rule in rules}
    assert found == {address: [{"port": port, "protocol": "TCP"}] for address, port in addresses.items()}


def test_onnx_runtime_tells_nobody_of_its_use(pod, scenario):
    _, triton = pod(scenario)

    assert {"name": "ORT_DISABLE_TELEMETRY", "value": "1"} in triton["env"]
