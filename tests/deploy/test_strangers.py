"""What strangers' tools say of the chart: checkov and yamllint, from an environment of their own."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "build" / "chart-tools" / "bin"

NOT_FOLLOWED = {
    "CKV_K8S_8": "The smoke test's pod runs to its end: nothing is there to be alive.",
    "CKV_K8S_9": "Nor ready: nobody calls it.",
    "CKV_K8S_11": "A limit on CPU throttles a server in the middle of a batch. `resources` may have one.",
    "CKV_K8S_15": "IfNotPresent lets a pod start without its registry, and the examples have tags.",
    "CKV_K8S_35": "Triton reads a store's credentials from its environment.",
    "CKV_K8S_40": "The images' own user, and what volumes hold already is its.",
    "CKV_K8S_43": "Examples have tags where the values take a digest, too.",
}
"""checkov's checks that the chart fails on purpose, and why."""

STYLE = {
    # Values and templates have prose beside them, and the house's lines.
    "document-start": "disable",
    "line-length": {"max": 132},
}
RENDERED_STYLE = STYLE | {
    # Helm's `toYaml` and whole programs in a literal decide these.
    "indentation": "disable",
    "line-length": "disable",
    "trailing-spaces": "disable",
    "empty-lines": "disable",
}


def tool(name):
    found = shutil.which(name, path=str(TOOLS))
    if found is None:
        pytest.skip(f"there is no {name} in {TOOLS.parent.name}; `make chart-tools` brings it")
    return found


@pytest.fixture(scope="module")
def rendered(chart, scenarios, tmp_path_factory):
    """A folder with a file for each scenario, as Helm would install it."""
    folder = tmp_path_factory.mktemp("rendered")
    for name, values in scenarios.items():
        files = chart.render(values, name="gliogate", namespace="imaging")
        manifests = [text for path, text in files.items() if path.endswith(".yaml") and text.strip()]
        (folder / f"{name}.yaml").write_text("---\n".join(manifests))
    return folder


def lint(style, *paths):
    configuration = json.dumps({"extends": "default", "rules": style})
    command = [tool("yamllint"), "--strict", "--format=parsable", "--config-data", configuration, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_yamllint_takes_the_values(chart_folder):
    assert not lint(STYLE, chart_folder / "Chart.yaml", chart_folder / "values.yaml", chart_folder / "ci")


def test_yamllint_takes_what_is_rendered(rendered):
    assert not lint(RENDERED_STYLE, rendered)


def test_checkov_finds_only_what_is_meant(rendered):
    command = [
        tool("checkov"),
        "--directory",
        str(rendered),
        "--framework",
        "kubernetes",
        "--output",
        "json",
        "--skip-download",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    report = json.loads(done.stdout)

    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 1000
    failed = {
        each["check_id"]: f"{each['check_name']}: {each['resource']}" for each in report["results"]["failed_checks"]
    }
    assert {key: failed[key] for key in failed.keys() - NOT_FOLLOWED.keys()} == {}
    # What it no longer says needs no reason.
    assert NOT_FOLLOWED.keys() == failed.keys()
