"""Training where there is no TensorFlow, as on a machine with a GPU that has only JAX; then on here."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("jax")

CHECKOUT = Path(__file__).parents[2]

# Phases of different sizes, an average of the weights, and a look at the validation slices in between.
IN_JAX = """
import sys
sys.modules["tensorflow"] = None
from training.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
COURSE = (
    "stages.flagship.phases=[{\"epochs\": 1, \"window\": 64}, {\"epochs\": 1, \"window\": 96}]",
    'stages.flagship.options={"filters": [4, 8, 16, 16, 16], "depths": [1, 1, 1, 1, 1]}',
)  # fmt: skip


@pytest.mark.timeout(600)
def test_a_network_trained_with_jax_is_one_of_tensorflows(kaggle: Path, tmp_path: Path) -> None:
    arguments = [
        "train",
        str(tmp_path / "run"),
        "--data",
        str(kaggle),
        *(part for c in COURSE for part in ("--set", c)),
    ]
    path = os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", IN_JAX, *arguments], env=environment, check=True)

    from training.data import read_kaggle
    from training.networks import logits_of
    from training.run import Run

    assert keras.backend.backend() == "tensorflow"
    logits = logits_of(Run.open(tmp_path / "run"), read_kaggle(kaggle).images)
    assert np.isfinite(logits.tumor).all()
    assert np.isfinite(logits.mask).all()
