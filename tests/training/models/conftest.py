"""Slices to show to networks, and what their ONNX files answer."""

import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest

from training.data import phantoms


@pytest.fixture(scope="session")
def slices() -> np.ndarray:
    """Four phantoms, two of them with tumor: uint8 (4, 256, 256, 3)."""
    return phantoms(4, prevalence=0.5, seed=3).images


@pytest.fixture
def onnx_answers(tmp_path: Path) -> Callable[[keras.Model, np.ndarray], dict[str, np.ndarray]]:
    """What ONNX Runtime makes of slices by a network's exported file, by the names of its outputs."""

    def answers(network: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
        path = tmp_path / "network.onnx"
        signature = [keras.InputSpec(shape=(None, *images.shape[1:]), dtype="uint8", name="image")]
        with warnings.catch_warnings():
            # tf2onnx asks NumPy for a name that a coming NumPy will define otherwise.
            warnings.simplefilter("ignore", FutureWarning)
            network.export(path, format="onnx", opset_version=17, input_signature=signature, verbose=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, {"image": images}), strict=True))

    return answers
