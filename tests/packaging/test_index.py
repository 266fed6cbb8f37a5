"""The wheel and all that it depends on, from the package index, on each Python that gliogate is for.

Extras come one after the other, in different orders, and a NumPy that Triton cannot take is found and mended.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.environments import Environment

from gliogate.installed import EXTRAS

CHECKOUT = Path(__file__).parents[2]
FIRST, *LATER = [
    line for line in (CHECKOUT / "README.md").read_text().splitlines() if line.startswith("pip install 'dist/")
]
INSTALLS = {
    # As the README has it, and then what the doctor says.
    "3.11": [FIRST, "pip install 'gliogate[dicom,nifti]'", "pip install 'gliogate[cohort,loadtest,otel]'"],
    "3.12": [
        FIRST.replace("[embedded]", "[cohort,dicom,nifti]"),
        "pip install 'gliogate[loadtest,otel]'",
        "pip install 'gliogate[embedded]'",
    ],
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def find_python(version):
    """An interpreter of a version, on PATH or among pyenv's; None where there is none that runs."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    for path in [*([on_path] if on_path else []), *pyenv.glob(f"versions/{version}.*/bin/python{version}")]:
        # One that pyenv has on PATH may only say that it is not chosen.
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return Path(path)
    return None


@pytest.mark.parametrize("version", INSTALLS)
def test_extras_come_in_any_order_and_a_numpy_that_is_wrong_is_mended_by_the_doctor_s_command(version, dist, tmp_path):
    python = find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} on PATH or among pyenv's")
    environment = Environment(tmp_path / "venv", with_pip=True, python=python)
    (tmp_path / "dist").symlink_to(dist)

    def shell(command):
        done = subprocess.run(  # noqa: S602  as a person types it
            command, shell=True, cwd=tmp_path, env=environment.variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    assert "[embedded]" in FIRST
    assert LATER == []
    for command in INSTALLS[version]:
        shell(command)

    assert "No broken requirements" in environment.run("pip", "check", cwd=tmp_path).stdout
    assert_all_is_well(environment, tmp_path)

    shell("pip install 'numpy>=2,<2.3'")

    assert re.fullmatch(
        r"gliogate: error: the embedded Triton needs NumPy 1, and 2\.\S+ is installed: pip install '.*'\n",
        environment.run("gliogate", "demo", cwd=tmp_path, code=1).stderr,
    )
    told = environment.run("gliogate", "doctor", cwd=tmp_path, code=1).stdout
    (command,) = set(re.findall("pip install '.*'", told))
    shell(command)
    assert_all_is_well(environment, tmp_path)


def assert_all_is_well(environment, folder):
    doctor = environment.run("gliogate", "doctor", cwd=folder).stdout
    for extra, modules in EXTRAS.items():
        assert re.search(rf"^ok +extra {extra} +{', '.join(modules)}$", doctor, re.MULTILINE)
    assert re.search(r"^ok +models +the wheel's, ", doctor, re.MULTILINE)
    assert "12 scans" in environment.run("gliogate", "demo", cwd=folder).stdout
