"""docs/operations.md: what it tells to type fits the chart and the Dockerfile."""

import re
import shlex
from itertools import pairwise

import helm_python
import pytest
import yaml

from deploy.simulate.__main__ import make_parser


@pytest.fixture(scope="module")
def page(chart_folder):
    return (chart_folder.parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def commands(page):
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    inline = re.findall("`((?:helm|kubectl) [^`]+)`", page)
    return [shlex.split(line) for line in [*"".join(blocks).splitlines(), *inline]]


def options(command, name):
    return [value for option, value in pairwise(command) if option == name]


def test_its_values_are_the_charts(page, render):
    blocks = [yaml.safe_load(each) for each in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
    values = [each for each in blocks if "rules" not in each]

    assert len(values) == len(blocks) - 1 == 9
    for each in values:
        assert render(**each)


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
            assert options(command, "--values") == ["values.yaml"]
        for expression in options(command, "--set"):
            chart.validate_schema(helm_python.parse_set_string(expression))


def test_its_kubectl_commands_name_what_is_installed(commands, render):
    installed = {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in render("gpu")}
    for command in commands:
        if command[0] == "kubectl":
            named = {each for each in command if re.fullmatch(r"(deployment|service)/\S+", each)}
            assert named <= installed


def test_its_simulation_takes_these_options(commands):
    (simulation,) = [command for command in commands if command[:3] == ["python", "-m", "deploy.simulate"]]

    assert make_parser().parse_args(simulation[3:]).peak == 5000


def test_the_images_that_it_builds_are_targets_of_the_dockerfile(commands, chart_folder):
    dockerfile = (chart_folder.parents[1] / "docker" / "Dockerfile").read_text()

    targets = [target for command in commands if command[0] == "docker" for target in options(command, "--target")]
    assert sorted(targets) == sorted(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))


def test_every_value_that_it_names_is_one(page, chart):
    named = re.findall(r"`([a-z]\w*(?:\.\w+)+)[`:=]", page)
    paths = [each for each in named if each.split(".")[0] in chart.values and not each.endswith((".crt", ".key"))]

    assert len(set(paths)) > 15
    for path in paths:
        value = chart.values
        for key in path.split("."):
            assert key in value, path
            value = value[key]
