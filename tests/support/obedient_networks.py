"""Networks that do as they are told, for servers in trouble: both answer as the tiny ones do."""

import re
import shutil
from pathlib import Path

from gliogate.contract import DETECTOR, SEGMENTER, Model

_ORDER = "order"

_CODE = """
import json, time
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self._order = Path(args["model_repository"]) / "order"
        (output,) = json.loads(args["model_config"])["output"]
        self._name, self._is_mask = output["name"], len(output["dims"]) > 1
        self._obey("load")

    def _obey(self, order):
        while self._order.exists() and self._order.read_text() == order:
            time.sleep(0.05)

    def execute(self, requests):
        self._obey("hang")
        order = self._order.read_text() if self._order.exists() else ""
        if order == "crawl":
            time.sleep(1.5)
        until = time.thread_time() + 0.5
        while order == "burn" and time.thread_time() < until:
            pass
        return [self._answer(request, order) for request in requests]

    def _answer(self, request, order):
        images = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        if order == "fail" or (order == "fail unless black" and images.any()):
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("out of order"))
        level = images[..., 1] / np.float32(255)
        answer = level if self._is_mask else level.mean((1, 2), keepdims=False)[:, None]
        return pb_utils.InferenceResponse([pb_utils.Tensor(self._name, answer.astype(np.float32))])
"""


def build_obedient(tiny: Path, destination: Path) -> Path:
    """Copies a tiny repository, with networks that obey."""
    shutil.copytree(tiny, destination)
    for model in (DETECTOR, SEGMENTER):
        config = destination / model.name / "config.pbtxt"
        text = config.read_text()
        for pattern in ("default_model_filename: .*", "optimization .*", r"model_warmup \[(\n.*)*"):
            text = re.sub(f"^{pattern}", "", text, flags=re.MULTILINE)
        config.write_text(text.replace('backend: "onnxruntime"', 'backend: "python"'))
        for file in (destination / model.name / "1").iterdir():
            file.unlink()
        (destination / model.name / "1" / "model.py").write_text(_CODE)
    return destination


def tell(repository: Path, model: Model, order: str | None) -> None:
    """Tells a network what to do from now on: load, hang, crawl, burn, fail, fail unless black; None is to answer.

    `load` keeps it from being loaded and `hang` from answering, until it is told otherwise; with `crawl` it takes a
    second and a half for an answer, with `burn` half a second of a processor's time.
    """
    path = repository / model.name / _ORDER
    if order is None:
        path.unlink(missing_ok=True)
    else:
        # In one piece, for it is read at any time.
        part = path.with_suffix(".part")
        part.write_text(order)
        part.replace(path)
