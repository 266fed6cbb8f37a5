"""Training with JAX where there is no TensorFlow, and on several devices with either; then on here."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from training.data import read_kaggle
from training.networks import logits_of
from training.run import Run

pytest.importorskip("jax")

CHECKOUT = Path(__file__).parents[2]

# Two devices of this processor stand in for two GPUs: how a batch is shared out and put together again is the same.
IN_JAX = """
import os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
sys.modules["tensorflow"] = None
import training.devices
training.devices.gpus = lambda: ["cpu:0", "cpu:1"]
"""
IN_TENSORFLOW = """
import sys
import tensorflow as tf
[processor] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
import training.devices
training.devices.gpus = lambda: ["CPU:0", "CPU:1"]
"""
TRAIN = """
from training.__main__ import main
sys.exit(main(["train", *sys.argv[1:]]))
"""

RECIPE = ("--recipe", "resunet-multitask")
# Phases of different sizes, an average of the weights, and a look at the validation slices in between.
COURSE = (
    'stages.multitask.phases=[{"epochs": 1, "window": 64}, {"epochs": 1, "window": 96}]',
    'stages.multitask.options={"filters": [4, 8, 16, 16, 16], "depths": [1, 1, 1, 1, 1]}',
    "stages.detector.network=resunet_multitask",
    'stages.detector.options={"filters": [4, 8, 16, 16, 16], "depths": [1, 1, 1, 1, 1]}',
    'stages.detector.phases=[{"epochs": 1, "window": 64}]',
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("backend", "script"), [("jax", IN_JAX), ("tensorflow", IN_TENSORFLOW)])
def test_what_two_devices_trained_is_a_network_of_one(backend: str, script: str, kaggle: Path, tmp_path: Path) -> None:
    changes = (part for change in COURSE for part in ("--set", change))
    path = os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", script + TRAIN, tmp_path / "run", "--data", kaggle, *RECIPE, *changes],
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": path},
        check=True,
    )
    assert keras.backend.backend() == "tensorflow"
    logits = logits_of(Run.open(tmp_path / "run"), read_kaggle(kaggle).images)
    assert np.isfinite(logits.tumor).all()
    assert np.isfinite(logits.mask).all()
