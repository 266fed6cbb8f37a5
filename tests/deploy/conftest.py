"""The chart, rendered by Helm's own engine."""

import re
import runpy
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

from deploy.simulate.__main__ import merge

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "gliogate"

SCENARIOS = sorted(file.name.removesuffix("-values.yaml") for file in (CHART / "ci").iterdir())

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that is there twice, as YAML does, and Flux; PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Manifest:
        keys = [key.value for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"{node.start_mark}: a key is there twice in {keys}"
        return super().construct_mapping(node, deep)


def parse(text: str) -> list[Manifest]:
    return [document for document in yaml.load_all(text, StrictLoader) if document]


@pytest.fixture(scope="session")
def chart_folder() -> Path:
    return CHART


@pytest.fixture(scope="session")
def scenarios() -> dict[str, Manifest]:
    """The values of ci/NAME-values.yaml, by name."""
    return {name: yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text()) for name in SCENARIOS}


@pytest.fixture(scope="session", params=SCENARIOS)
def scenario(request) -> str:
    """Each scenario in turn, by name."""
    return request.param


@pytest.fixture(scope="session")
def chart():
    with Chart.load(CHART) as chart:
        yield chart


@pytest.fixture(scope="session")
def render(chart, scenarios) -> Render:
    """Renders a scenario, with further values, as release `gliogate` in `imaging`; a__b=1 sets a.b."""

    def render(scenario: str = "minimal", name: str = "gliogate", **values: Any) -> list[Manifest]:
        merged = scenarios[scenario]
        for path, value in values.items():
            merged = merge(merged, _nest(path.split("__"), value))
        files = chart.render(merged, name=name, namespace="imaging")
        return [document for path, text in files.items() if path.endswith(".yaml") for document in parse(text)]

    return render


@pytest.fixture(scope="session")
def pod(render):
    """Renders, and returns the spec of Triton's pods and their container."""

    def pod(*arguments: Any, **values: Any) -> tuple[Manifest, Manifest]:
        (deployment,) = [each for each in render(*arguments, **values) if each["kind"] == "Deployment"]
        spec = deployment["spec"]["template"]["spec"]
        return spec, spec["containers"][0]

    return pod


@pytest.fixture(scope="session")
def metrics_of() -> Callable[[str], set[str]]:
    """Returns the names of the metrics on a server's page."""

    def metrics_of(url: str) -> set[str]:
        page = urllib.request.urlopen(url, timeout=5).read().decode()
        return set(re.findall("^# TYPE ([a-z_]+) ", page, re.MULTILINE))

    return metrics_of


@pytest.fixture(scope="session")
def smoke_test() -> Callable[..., str | None]:
    """What `helm test` runs; returns what is wrong, or None."""
    return runpy.run_path(str(CHART / "files" / "smoke_test.py"))["check"]


def _nest(path: list[str], value: Any) -> Any:
    return {path[0]: _nest(path[1:], value)} if path else value
