"""How fast gliogate is, as ratios within one run: whatever else the machine does then, it does to every row."""

import os
import sys

# Before ONNX Runtime is loaded, which tells Microsoft of its use unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenVINO would count its users through this package, which keeps a number for each in the home folder.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
# Everything goes over loopback, where not all of the clients do without the environment's proxy.
for name in ("no_grpc_proxy", "no_proxy"):
    os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))
