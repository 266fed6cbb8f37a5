"""The same networks on the other backend."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.models.resunet import resunet_segmenter

CHECKOUT = Path(__file__).parents[3]
FILTERS = (4, 8, 16)

IN_JAX = f"""
import sys
import numpy as np
from training.models.resunet import resunet_segmenter
network = resunet_segmenter(size=128, filters={FILTERS}, clahe=True)
network.load_weights("network.weights.h5")
np.save("answer.npy", network.predict_on_batch(np.load("slices.npy"))["mask"])
assert "tensorflow" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_jax_answers_as_tensorflow(slices: np.ndarray, tmp_path: Path) -> None:
    images = np.ascontiguousarray(slices[:, 64:192, 64:192])
    network = resunet_segmenter(size=128, filters=FILTERS, clahe=True)
    network.save_weights(tmp_path / "network.weights.h5")
    np.save(tmp_path / "slices.npy", images)
    path = os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", IN_JAX], cwd=tmp_path, env=environment, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), network.predict_on_batch(images)["mask"], atol=1e-3)
