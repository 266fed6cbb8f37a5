"""What a run was made with and on."""

from typing import Any, Final

import keras

from reports import environment as machine

PACKAGES: Final = (
    "gliogate",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "numpy",
    "opencv-python-headless",
    "onnx",
    "tf2onnx",
)


def environment() -> dict[str, Any]:
    """JSON-safe: see `reports.environment`, and what Keras runs on."""
    return machine.environment(PACKAGES) | {
        "backend": keras.backend.backend(),
        "accelerators": [str(device) for device in keras.distribution.list_devices() if not device.startswith("cpu")],
    }
