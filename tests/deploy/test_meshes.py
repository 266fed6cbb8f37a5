"""In a mesh: what of its traffic gets through, how its proxies end, and what they are told of gRPC."""

import json
from itertools import product

import pytest
from helm_python import HelmRenderError

CONTROL_PLANES = {"istio": ("istio-system", [15012]), "linkerd": ("linkerd", [8080, 8086, 8090])}


def of_kind(manifests, kind):
    return [each for each in manifests if each["kind"] == kind]


def policy_of(render, component="server", **values):
    (found,) = [
        each["spec"]
        for each in of_kind(render(**values), "NetworkPolicy")
        if each["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == component
    ]
    return found


def ports(rule):
    return [each["port"] for each in rule["ports"]]


def annotations(render, **values):
    (server,) = of_kind(render(**values), "Deployment")
    return server["spec"]["template"]["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("kind", "clients", "monitoring"),
    [
        ("none", ["grpc"], ["metrics"]),
        # https://istio.io/latest/docs/ops/deployment/application-requirements/#ports-used-by-istio
        ("istio", ["grpc", 15008], ["metrics", 15020, 15090]),
        # https://istio.io/latest/docs/ambient/usage/networkpolicy/
        ("ambient", ["grpc", 15008], ["metrics", 15008]),
        # https://linkerd.io/2/common-errors/network-policy/
        ("linkerd", ["grpc", 4143], ["metrics", 4191]),
    ],
)
def test_its_traffic_comes_in_from_those_who_may(kind, clients, monitoring, render):
    from_clients, from_monitoring = policy_of(render, mesh__kind=kind)["ingress"]

    assert ports(from_clients) == clients
    assert ports(from_monitoring) == monitoring


@pytest.mark.parametrize("kind", CONTROL_PLANES)
@pytest.mark.parametrize("component", ["server", "load-test", "smoke-test"])
def test_a_proxy_gets_to_its_control_plane(kind, component, render):
    """Else it is never ready, and neither is the pod."""
    namespace, where = CONTROL_PLANES[kind]
    load_test = {"enabled": True, "image": "i"}
    egress = policy_of(render, component, mesh__kind=kind, loadTest=load_test, smokeTest__image="i")["egress"]

    dns, plane, proxies, *_ = egress
    assert {(each["port"], each["protocol"]) for each in dns["ports"]} == set(product((53, 5353), ("UDP", "TCP")))
    assert plane["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]
    assert ports(plane) == where
    assert ports(proxies) == [{"istio": 15008, "linkerd": 4143}[kind]]


def test_a_control_plane_may_be_elsewhere(render):
    _, plane, _ = policy_of(render, scenario="mesh")["egress"]

    assert plane["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "mesh"}}}]


def test_ambients_tunnel_gets_out(render):
    dns, tunnel = policy_of(render, mesh__kind="ambient")["egress"]

    assert 53 in ports(dns)
    assert ports(tunnel) == [15008]


def test_without_a_mesh_nothing_is_let_through_for_one(render):
    assert policy_of(render)["egress"] == []
    assert annotations(render) == {"kubectl.kubernetes.io/default-container": "triton"}


@pytest.mark.parametrize(
    ("kind", "annotation"),
    [("istio", "traffic.sidecar.istio.io/excludeInboundPorts"), ("linkerd", "config.linkerd.io/skip-inbound-ports")],
)
def test_prometheus_reads_past_the_proxy(kind, annotation, render):
    """It is not in the mesh, or not always, and a strict mesh would refuse it."""
    assert annotations(render, mesh__kind=kind, triton__metrics__port=9002)[annotation] == "9002"


def test_istios_proxy_comes_first_and_ends_last(render):
    """https://github.com/istio/istio/issues/34855: it ends 5 s after the signal, while Triton drains for a hundred."""
    config = json.loads(annotations(render, scenario="mesh", drain__seconds=110)["proxy.istio.io/config"])

    assert config == {"holdApplicationUntilProxyStarts": True, "terminationDrainDuration": "140s"}
    # A native sidecar does both by itself, and would hold the pod up.
    assert "proxy.istio.io/config" not in annotations(render, mesh__kind="istio")


def test_linkerds_proxy_comes_first_and_ends_last(render):
    """https://linkerd.io/2/tasks/graceful-shutdown/; with native sidecars the annotation should not be used."""
    found = annotations(render, mesh={"kind": "linkerd", "nativeSidecars": False})

    assert found["config.alpha.linkerd.io/proxy-wait-before-exit-seconds"] == "130"
    assert found["config.linkerd.io/proxy-await"] == "enabled"
    native = annotations(render, mesh__kind="linkerd")
    assert "config.alpha.linkerd.io/proxy-wait-before-exit-seconds" not in native


def test_who_says_otherwise_is_heard(render):
    own = {"proxy.istio.io/config": "{}"}

    assert annotations(render, scenario="mesh", podAnnotations=own)["proxy.istio.io/config"] == "{}"


@pytest.mark.parametrize(
    ("values", "protocol"),
    [
        ({}, "kubernetes.io/h2c"),
        ({"mesh__kind": "istio"}, "grpc"),
        ({"mesh__kind": "ambient"}, "grpc"),
        # It knows no grpc: https://github.com/linkerd/linkerd2/issues/14033
        ({"mesh__kind": "linkerd"}, "kubernetes.io/h2c"),
        ({"mesh__kind": "istio", "tls": {"enabled": True, "existingSecret": "tls"}}, "https"),
        ({"mesh__kind": "istio", "service__appProtocol": "kubernetes.io/h2c"}, "kubernetes.io/h2c"),
    ],
)
def test_a_mesh_is_told_that_it_is_grpc(values, protocol, render):
    for service in of_kind(render(**values), "Service"):
        assert service["spec"]["ports"][0]["appProtocol"] == protocol
        # Istio goes by the name, too.
        assert service["spec"]["ports"][0]["name"] == "grpc"


def test_probes_need_no_way_through_a_proxy(render):
    """They are commands, which ask loopback: no mesh catches or rewrites that."""
    (server,) = of_kind(render("mesh"), "Deployment")
    triton, *_ = server["spec"]["template"]["spec"]["containers"]

    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert {"httpGet", "grpc", "tcpSocket"}.isdisjoint(triton[name])
        assert "http://127.0.0.1:8000" in triton[name]["exec"]["command"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loadTest": {"enabled": True, "image": "i"}}, "loadTest.enabled starts pods that end"),
        ({"smokeTest__image": "i"}, "smokeTest.image starts pods that end"),
        ({"podSecurityContext__runAsUser": 1337}, "runAsUser is 1337, the user of Istio's proxy"),
    ],
)
def test_what_a_mesh_cannot_have_is_refused(values, message, render):
    with pytest.raises(HelmRenderError, match=message):
        render("mesh", **values)
