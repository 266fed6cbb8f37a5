"""How fast gliogate is, as ratios within one run: whatever else the machine does then, it does to every row."""

import os

# Before ONNX Runtime is loaded, which tells Microsoft of its use unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
