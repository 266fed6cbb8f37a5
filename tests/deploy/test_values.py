"""Values: documented line by line, and refused where they make no sense."""

import json

import pytest
import yaml
from helm_python import HelmRenderError, HelmValuesError

from deploy.helm.values_table import read_comments, read_values, with_table

CLAIM = {"persistentVolumeClaim": {"claimName": "studies"}}
BATCH = {
    "enabled": True,
    "image": "i",
    "input": {"volume": CLAIM, "subPath": "studies"},
    "output": {"volume": CLAIM, "subPath": "results"},
}
OPEN = {"enabled": True, "host": "gliogate.example"}
LOAD_TEST = {"enabled": True, "image": "i", "tlsSecret": "client"}
ROUTE = {"enabled": True, "parentRefs": [{"name": "edge"}]}
PROVIDER = {"name": "p", "issuer": "i", "audiences": ["a"], "remoteJWKS": {"uri": "https://identity.example/keys"}}


@pytest.fixture(scope="module")
def text(chart_folder):
    return (chart_folder / "values.yaml").read_text(encoding="utf-8")


def test_every_value_is_described(text):
    values = read_values(text)

    assert len(values) > 100
    assert [value.path for value in values if not value.description] == []
    sections = {value.path.rsplit(".", 1)[0] for value in values if "." in value.path}
    assert sections <= read_comments(text).keys()


def test_the_readme_has_the_table_of_values(text, chart_folder):
    readme = (chart_folder / "README.md").read_text(encoding="utf-8")

    assert readme == with_table(readme, text), "run: python deploy/helm/values_table.py"


def test_the_schema_knows_the_values_and_no_others(text, chart_folder):
    def differences(value, schema, path):
        if not isinstance(value, dict) or "properties" not in schema:
            return []
        # Subcharts have their own in `global`.
        assert path == ".global" or schema["additionalProperties"] is False, path
        missing = [f"{path}.{key}" for key in value.keys() - schema["properties"].keys()]
        known = value.keys() & schema["properties"].keys()
        return missing + [
            each for key in known for each in differences(value[key], schema["properties"][key], f"{path}.{key}")
        ]

    schema = json.loads((chart_folder / "values.schema.json").read_text())
    values = yaml.safe_load(text)
    assert differences(values, schema, "") == []
    assert schema["properties"].keys() == values.keys()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replicaCount": 3}, "replicaCount"),
        ({"triton": {"grpc": {"prot": 8001}}}, "prot"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"models": {"source": "ftp"}}, "source"),
        ({"models": {"source": "s3"}}, "s3"),
        ({"models": {"source": "s3", "s3": {"url": "https://bucket"}}}, "url"),
        ({"models": {"source": "pvc"}}, "claimName"),
        ({"models": {"source": "oci"}}, "reference"),
        ({"models": {"path": "models"}}, "path"),
        ({"accelerator": {"profile": "tpu"}}, "profile"),
        ({"accelerator": {"profile": "timeSliced", "count": 2}}, "count"),
        # A process of CUDA's sees one slice.
        ({"accelerator": {"profile": "mig", "count": 2}}, "count"),
        ({"accelerator": {"profile": "cpu", "resourceClaim": {"enabled": True}}}, "enabled"),
        ({"accelerator": {"resourceClaim": {"templateName": "t"}}}, "enabled"),
        ({"accelerator": {"resourceClaim": {"enabled": True, "templateName": "t", "claimName": "c"}}}, "claimName"),
        ({"accelerator": {"resourceClaim": {"enabled": True, "claimName": "c", "selectors": ["s"]}}}, "selectors"),
        ({"accelerator": {"resourceClaim": {"apiVersion": "v1alpha3"}}}, "apiVersion"),
        # Of a claim that no pod has Kubernetes says only that it is not there.
        ({"resources": {"claims": [{"name": "gpu"}]}}, "claims"),
        ({"accelerator": {"profile": "mig", "resource": "nvidia.com/gpu"}}, "resource"),
        ({"engineCache": {"existingClaim": "engines", "claim": {"enabled": True}}}, "existingClaim"),
        ({"engineCache": {"enabled": False, "claim": {"enabled": True}}}, "enabled"),
        ({"engineCache": {"claim": {"accessMode": "ReadOnlyMany"}}}, "accessMode"),
        ({"nameOverride": "Foo_Bar"}, "nameOverride"),
        ({"fullnameOverride": "1st"}, "fullnameOverride"),
        ({"image": {"pullSecrets": [{"nme": "a"}]}}, "nme"),
        ({"triton": {"grpc": {"port": 80}}}, "port"),
        ({"triton": {"extraArgs": ["log-verbose=1"]}}, "extraArgs"),
        ({"triton": {"admin": {"restrictedProtocols": []}}}, "restrictedProtocols"),
        ({"triton": {"admin": {"restrictedProtocols": ["trace"]}}}, "restrictedProtocols"),
        # Without the health protocol no probe would pass, and without inference no client.
        ({"triton": {"admin": {"restrictedProtocols": ["model-repository", "shared-memory", "inference"]}}}, "restr"),
        ({"triton": {"admin": {"restrictedProtocols": ["model-repository", "shared-memory", "health"]}}}, "restricted"),
        ({"tls": {"enabled": True}}, "tls"),
        ({"tls": {"mutual": True, "existingSecret": "tls"}}, "enabled"),
        ({"tls": {"enabled": True, "existingSecret": "tls"}, "triton": {"http": {"enabled": True}}}, "http"),
        ({"tls": {"enabled": True, "certManager": {"enabled": True}}}, "issuerRef"),
        ({"autoscaling": {"mode": "hpa", "minReplicas": 0}}, "minReplicas"),
        ({"autoscaling": {"mode": "keda"}}, "serverAddress"),
        ({"autoscaling": {"mode": "keda", "minReplicas": 0, "keda": {"serverAddress": "http://p:9090"}}}, "wakeQuery"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
        ({"ingress": {"enabled": True}}, "host"),
        ({"grpcRoute": {"enabled": True}}, "parentRefs"),
        ({"grpcRoute": {"jwt": {"providers": [PROVIDER]}}}, "providers"),
        ({"grpcRoute": ROUTE | {"jwt": {"providers": [PROVIDER | {"audiences": []}]}}}, "audiences"),
        ({"grpcRoute": ROUTE | {"jwt": {"providers": [PROVIDER | {"remoteJWKS": {"uri": "http://id"}}]}}}, "uri"),
        ({"grpcRoute": ROUTE | {"jwt": {"rules": [{"principal": {}}]}}}, "providers"),
        ({"ingress": {"enabled": True, "host": "h", "controller": "haproxy", "authUrl": "http://a"}}, "controller"),
        ({"batch": {"enabled": True}}, "image"),
        ({"batch": {"enabled": True, "image": "i", "input": {"volume": CLAIM}}}, "output"),
        ({"batch": {"input": {"volume": {"hostPath": {"path": "/"}}}}}, "hostPath"),
        ({"batch": {"pods": 0}}, "pods"),
        ({"batch": BATCH, "tls": {"enabled": True, "existingSecret": "tls"}}, "tlsSecret"),
        ({"loadTest": {"enabled": True}}, "image"),
        ({"loadTest": {"scenarios": ["everything"]}}, "scenarios"),
        ({"loadTest": {"arguments": ["rate=5"]}}, "arguments"),
        # The load tests have no certificate to show.
        ({"loadTest": LOAD_TEST, "tls": {"enabled": True, "mutual": True, "existingSecret": "tls"}}, "loadTest"),
        ({"monitoring": {"rules": {"objective": 99.5}}}, "objective"),
        ({"monitoring": {"rules": {"leastFailures": 0}}}, "leastFailures"),
        ({"monitoring": {"rules": {"latency": {"seconds": 3}}}}, "seconds"),
        ({"monitoring": {"rules": {"latency": {"share": 95}}}}, "share"),
        ({"monitoring": {"podMonitor": {"labels": {"app.kubernetes.io/name": "triton"}}}}, "app.kubernetes.io/name"),
        ({"networkPolicy": {"clients": [{}]}}, "clients"),
        ({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}, "rollingUpdate"),
        ({"strategy": {"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": 0}}}, "rollingUpdate"),
        ({"strategy": {"rollingUpdate": {"maxsurge": 1}}}, "maxsurge"),
        ({"service": {"nodePort": 30801}}, "nodePort"),
        ({"service": {"externalTrafficPolicy": "Local"}}, "externalTrafficPolicy"),
        ({"service": {"type": "NodePort", "loadBalancerSourceRanges": ["10.0.0.0/8"]}}, "loadBalancerSourceRanges"),
        ({"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1"]}}, "loadBalancerSourceRanges"),
        ({"service": {"ipFamilies": ["IPv6", "IPv4"]}}, "ipFamilyPolicy"),
        ({"service": {"trafficDistribution": "Close"}}, "trafficDistribution"),
        ({"autoscaling": {"keda": {"fallback": {"replicas": 3}}}}, "failureThreshold"),
        ({"autoscaling": {"keda": {"pausedReplicas": -2}}}, "pausedReplicas"),
        ({"global": {"imageRegistry": "https://mirror.example"}}, "imageRegistry"),
        ({"extraObjects": [{"kind": "ConfigMap"}]}, "apiVersion"),
        ({"minReadySeconds": -1}, "minReadySeconds"),
        ({"extraEnv": [{"foo": 1}]}, "foo"),
        ({"extraEnv": [{"name": "A", "value": 1}]}, "value"),
        ({"podSecurityContext": {"runAsUser": 0}}, "runAsUser"),
        ({"podSecurityContext": {"runAsNonRoot": False}}, "runAsNonRoot"),
        ({"securityContext": {"privileged": True}}, "privileged"),
        ({"securityContext": {"runAsUser": 0}}, "runAsUser"),
        ({"sharedMemory": "1 GB"}, "sharedMemory"),
        ({"podLabels": {"app.kubernetes.io/name": "triton"}}, "app.kubernetes.io/name"),
        ({"probes": {"readiness": {"terminationGracePeriodSeconds": 5}}}, "terminationGracePeriodSeconds"),
        # It asks for a slice, and needs time to say what is wrong.
        ({"probes": {"readiness": {"timeoutSeconds": 1}}}, "timeoutSeconds"),
        ({"probes": {"firstAnswerS": 0}}, "firstAnswerS"),
        ({"autoscaling": {"behavior": {"scaleup": {}}}}, "scaleup"),
        ({"autoscaling": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 7200}}}}, "stabilization"),
    ],
)
def test_the_schema_refuses(values, message, chart):
    with pytest.raises(HelmValuesError, match=message):
        chart.validate_schema(values)


def flags(container):
    return {each.partition("=")[0] for each in container["args"] if each.startswith("--")}


def test_the_schema_refuses_arguments_that_the_chart_gives(chart, pod):
    """Those that may be given more than once add to it."""
    scenarios = [("mtls", {}), ("gpu", {}), ("cpu", {"triton__http__enabled": True}), ("mtls", {"tls__mutual": False})]
    given = set.union(*[flags(pod(name, **values)[1]) for name, values in scenarios])

    assert {"--model-control-mode", "--allow-http", "--trace-config", "--grpc-use-ssl"} <= given
    for flag in given - {"--trace-config", "--metrics-config"}:
        for argument in (flag, f"{flag}=x"):
            with pytest.raises(HelmValuesError, match="extraArgs"):
                chart.validate_schema({"triton": {"extraArgs": [argument]}})
    chart.validate_schema({"triton": {"extraArgs": ["--model-load-thread-count=2", "--trace-config=mode=triton"]}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image__repository": ""}, "image.repository is empty"),
        ({"image__tag": ""}, "image.digest and image.tag are empty"),
        (
            {"drain__seconds": 90},
            "drain.seconds is 90; with a triton.grpc.maxConnectionAgeS of 30 it must be at least 98",
        ),
        ({"triton__metrics__port": 8001}, "must differ, got 8001, 8000 and 8001"),
        ({"autoscaling": {"mode": "hpa", "minReplicas": 20}}, "autoscaling.minReplicas is 20, more than"),
        ({"name": "1st"}, "1st-gliogate cannot be a Service's name"),
        ({"name": "my.app"}, "my.app-gliogate cannot be a Service's name"),
        ({"sharedMemory": "64Gi", "resources__limits__memory": "512Mi"}, "sharedMemory is 64Gi, .*below .*, 512Mi"),
        (
            {"tls__certManager": {"duration": "1h", "renewBefore": "59m60s"}},
            "renewBefore is 59m60s, not below duration",
        ),
        (
            {"accelerator": {"profile": "mig", "resource": "nvidia.com/mig-1g.3gb"}},
            "accelerator.resource is a slice of 3 GB",
        ),
        (
            {"accelerator": {"profile": "mps", "resourceClaim": {"enabled": True}}},
            "profile is mps, and each pod would claim a device of its own",
        ),
        (
            {"accelerator": {"resourceClaim": {"enabled": True, "claimName": "c"}}},
            "claimName is one device for 2 pods",
        ),
        ({"resources__limits": {"ephemeral-storage": "8Gi"}}, "limits.ephemeral-storage is 8Gi, .* evicted"),
        (
            {"scenario": "keda", "autoscaling__keda__pausedReplicas": 41},
            "autoscaling.keda.pausedReplicas is 41, more than autoscaling.maxReplicas, 40",
        ),
        (
            {"scenario": "keda", "autoscaling__keda__fallback": {"failureThreshold": 3, "replicas": 50}},
            "autoscaling.keda.fallback.replicas is 50, more than",
        ),
        ({"ingress": OPEN}, "ingress.enabled makes a way in that ends at the network policy"),
        ({"grpcRoute": ROUTE}, "grpcRoute.enabled makes a way in"),
        ({"service__type": "LoadBalancer"}, "service.type makes a way in"),
        ({"scenario": "hpa", "monitoring__podMonitor__interval": "5m"}, "interval is 5m; more than 30s gives scaling"),
        ({"scenario": "cpu", "monitoring__podMonitor__interval": "2m1s"}, "more than 2m gives the alerts nothing"),
        ({"batch": BATCH | {"output": {"volume": CLAIM}}}, 'batch.output.subPath is "", of one volume'),
        ({"batch": BATCH | {"input": {"volume": CLAIM}}}, 'batch.input.subPath is "" and .*taken for studies'),
        ({"batch": BATCH | {"output": {"volume": CLAIM, "subPath": "studies/../studies//a"}}}, "taken for studies"),
        (
            {"probes__liveness__failureThreshold": 1},
            "probes.liveness ends a pod after 15 s .*, before probes.readiness takes it out, after 20 s",
        ),
        ({"monitoring__rules__gateOpeningRate": {"low": 0.8}}, "gateOpeningRate.low is 0.8, not below high, 0.7"),
    ],
)
def test_values_that_do_not_go_together_are_refused(values, message, render):
    with pytest.raises(HelmRenderError, match=message):
        render(**values)


@pytest.mark.parametrize(
    "values",
    [
        # Connections that never age.
        {"drain__seconds": 5, "triton__grpc__maxConnectionAgeS": 0},
        # Another way to let a controller in, or nothing that it has to pass.
        {"ingress": OPEN, "networkPolicy__extraIngress": [{"ports": [{"port": "grpc"}]}]},
        {"ingress": OPEN, "networkPolicy__enabled": False},
        {"batch": BATCH | {"output": {"volume": CLAIM, "subPath": "studies-results"}}},
        {"accelerator": {"profile": "mig", "resource": "nvidia.com/mig-1g.5gb"}},
        {"accelerator": {"profile": "mig", "resource": "nvidia.com/mig-1g.3gb", "modelConfigName": "small"}},
        {"resources__limits__memory": 2**31},
        {"name": "1st", "fullnameOverride": "first"},
        {"scenario": "hpa", "monitoring__podMonitor__interval": "30s"},
    ],
)
def test_values_that_go_together_are_taken(values, render):
    assert render(**values)
