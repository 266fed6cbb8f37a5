"""docs/operations.md: what it tells to type fits the chart and the Dockerfile."""

import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import helm_python
import numpy as np
import pytest
import yaml
from support.tiny_networks import slices

from deploy.simulate.__main__ import main, make_parser, merge
from gliogate.cli import main as gliogate


@pytest.fixture(scope="module")
def page(chart_folder):
    return (chart_folder.parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def values(page):
    """The snippets of values, in order; the adapter's are none."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [yaml.safe_load(each) for each in blocks if not each.startswith("rules:")]


@pytest.fixture(scope="module")
def commands(page):
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    inline = re.findall("`((?:helm|kubectl) [^`]+)`", page)
    return [shlex.split(line) for line in [*"".join(blocks).splitlines(), *inline]]


def name(manifest):
    return manifest["kind"], manifest["metadata"]["name"]


def options(command, name):
    return [value for option, value in pairwise(command) if option == name]


def test_its_values_are_the_charts(values, render):
    assert len(values) == 12
    for each in values:
        assert render(**each)


def test_its_canary_takes_nothing_of_which_there_is_one(page, values, render):
    """Beside a release that has all of the page's values; TLS in the pod and a route exclude each other."""
    (canary,) = re.findall(r"^```yaml\n# canary.yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    everything = {
        "ingress": {"enabled": True, "host": "gliogate.example", "authUrl": "http://oauth2.svc"},
        "serviceAccount": {"name": "gliogate"},
    }
    for each in values:
        if "tls" not in each and each != yaml.safe_load(canary):
            everything = merge(everything, each)
    stable = render(**everything)
    beside = render(name="gliogate-canary", **merge(everything, yaml.safe_load(canary)))

    assert not {name(each) for each in stable} & {name(each) for each in beside}
    # The first one's has access to the models.
    (account,) = [
        each["spec"]["template"]["spec"]["serviceAccountName"] for each in beside if each["kind"] == "Deployment"
    ]
    assert ("ServiceAccount", account) in {name(each) for each in stable}
    only_once = {"ConfigMap", "GRPCRoute", "Ingress", "Job", "ScaledObject", "SecurityPolicy"}
    assert only_once <= {each["kind"] for each in stable}
    assert not only_once & {each["kind"] for each in beside}
    (route,) = [each for each in stable if each["kind"] == "GRPCRoute"]
    services = {each["metadata"]["name"] for each in stable + beside if each["kind"] == "Service"}
    assert {each["name"] for each in route["spec"]["rules"][0]["backendRefs"]} <= services
    # The gateway gets in.
    (policy,) = [each for each in beside if name(each) == ("NetworkPolicy", "gliogate-canary")]
    assert everything["networkPolicy"]["clients"][0] in policy["spec"]["ingress"][0]["from"]


def test_the_adapter_serves_what_the_hpa_asks_for(page, render):
    (scaler,) = [each for each in render("hpa") if each["kind"] == "HorizontalPodAutoscaler"]

    (name,) = re.findall(r'seriesQuery: .*__name__=~"([^"]+)"', page)
    for metric in scaler["spec"]["metrics"]:
        assert re.fullmatch(name, metric["pods"]["metric"]["name"])


def test_its_helm_commands_fit_the_chart(commands, chart):
    found = [command for command in commands if command[0] == "helm" and len(command) > 2]
    assert {command[1] for command in found} == {"install", "upgrade", "test", "history", "rollback", "uninstall"}
    for command in found:
        assert options(command, "--namespace") == ["imaging"]
        if command[1] in ("install", "upgrade"):
            assert command[3] == "deploy/helm/gliogate"
            names = ["values.yaml", "canary.yaml"] if command[2] == "gliogate-canary" else ["values.yaml"]
            assert options(command, "--values") == names
        for expression in options(command, "--set"):
            chart.validate_schema(helm_python.parse_set_string(expression))


def test_its_kubectl_commands_name_what_is_installed(commands, render):
    manifests = render("gpu") + render(name="gliogate-canary")
    installed = {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in manifests}
    for command in commands:
        if command[0] == "kubectl":
            named = {each for each in command if re.fullmatch(r"(deployment|service)/\S+", each)}
            assert named <= installed
            # Of a Deployment's pods it would show one.
            assert not (named and command[3:4] == ["logs"])


def test_kubectl_knows_its_commands_and_their_options(commands):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl")
    found = [command[1:] for command in commands if command[0] == "kubectl" and len(command) > 2]

    assert len(found) > 10
    for command in found:
        # Nobody is there: what is understood ends with that, what is not, before.
        asked = subprocess.run(
            [kubectl, "--server=http://127.0.0.1:1", *command], capture_output=True, text=True, check=False, timeout=120
        )
        assert "refused" in asked.stderr, asked.stderr


def test_its_cohorts_are_scored(commands, tiny_server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLIOGATE_URL", tiny_server.url)
    for name in ("studies/a", "studies/patient/b"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        np.save(f"{name}.npy", slices(0.25, 0.75))
    once, each = [command[1:] for command in commands if command[:2] == ["gliogate", "cohort"]]

    assert gliogate(each) == 0
    assert gliogate(once) == 1  # A patient's folder is no head.
    assert {path.name for path in Path("results/patient/b.npy/files").iterdir()} == {
        "b_mask.nii.gz",
        "b_montage.png",
        "b_slices.csv",
    }


def test_its_arrays_are_the_file_s(commands, chart_folder):
    arrays = [command for command in commands if command[0] == "sbatch"]
    assert len(arrays) == 2
    for command in arrays:
        (script,) = [word for word in command if word.endswith(".sbatch")]
        assert (chart_folder.parents[2] / script).is_file()
        cohort = command[command.index(script) + 1 :]
        assert cohort[:2] == ["studies", "results"]


def test_its_simulation_takes_these_options(commands):
    (simulation,) = [command for command in commands if command[:3] == ["python", "-m", "deploy.simulate"]]

    assert make_parser().parse_args(simulation[3:]).peak == 5000


@pytest.mark.slow
def test_its_table_of_targets_is_what_the_simulation_says(page, chart, tmp_path, capsys):
    """And the chart's own target refuses no request of any of the pods."""
    (head, table) = re.search(r"^(\| pod \| options .*)\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE).groups()
    columns = [each.strip() for each in head.strip("|").split("|")]
    own = str(chart.values["autoscaling"]["targets"]["inFlight"])
    rows = [dict(zip(columns, map(str.strip, line.strip("|").split("|")), strict=True)) for line in table.splitlines()]

    assert len(rows) == 4
    for row in rows:
        words = [*shlex.split(row["options"].strip("`")), "--max-replicas=40", f"--in-flight={','.join(columns[3:])}"]
        assert main([*words, f"--output={tmp_path / 'day.html'}"]) == 0
        printed = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
        for target, *_, refused, hours, _ in (map(str.strip, cells) for cells in printed):
            lost = "" if refused == "0.00%" else f", {refused}"
            assert row[target] == f"{float(hours):.0f}{lost}"
        assert "%" not in row[own]


def test_the_images_that_it_builds_are_targets_of_the_dockerfile(commands, chart_folder):
    dockerfile = (chart_folder.parents[1] / "docker" / "Dockerfile").read_text()

    builds = [command for command in commands if command[0] == "docker"]
    targets = [target for command in builds for target in options(command, "--target")]
    assert sorted(targets) == sorted(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))
    # Of every target: BuildKit refuses a FROM without a name before it looks at the target.
    images = set(re.findall(r"^ARG (\w+_IMAGE)$", dockerfile, re.MULTILINE))
    in_its_head = [shlex.split(line) for line in re.findall(r"^#   (docker .*)$", dockerfile, re.MULTILINE)]
    assert images
    assert in_its_head
    for command in [*builds, *in_its_head]:
        assert images <= {each.partition("=")[0] for each in options(command, "--build-arg")}
    # An attestation holds the time of the build.
    assert all("--provenance=false" in command for command in builds)


def test_every_value_that_it_names_is_one(page, chart):
    named = re.findall(r"`([a-z]\w*(?:\.\w+)+)[`:=]", page)
    paths = [each for each in named if each.split(".")[0] in chart.values and not each.endswith((".crt", ".key"))]

    assert len(set(paths)) > 15
    for path in paths:
        value = chart.values
        for key in path.split("."):
            assert key in value, path
            value = value[key]
