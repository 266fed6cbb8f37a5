"""How fast gliogate is, as ratios within one run: whatever else the machine does then, it does to every row."""

import os
import sys

# Before ONNX Runtime is loaded, which tells Microsoft of its use unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenVINO would count its users through this package, which keeps a number for each in the home folder.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
