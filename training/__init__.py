"""Trains the detector and the segmenter, and writes what is served. Run from a checkout: `python -m training -h`."""

import os

# Before ONNX Runtime is loaded, which tells Microsoft of its use unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
