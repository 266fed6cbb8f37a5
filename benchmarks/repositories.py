"""Model repositories for Triton that are not gliogate's own: the same networks behind something else than the gate."""

import json
import shutil
from pathlib import Path

from benchmarks.fused import write_fused
from benchmarks.pair import IN_8_BITS, Networks
from gliogate.contract import DETECTOR, ENSEMBLE, SEGMENTER

_PLAIN_ENSEMBLE = """\
name: "brain_tumor"
platform: "ensemble"
max_batch_size: 32
input [ { name: "image" data_type: TYPE_UINT8 dims: [ 256, 256, 3 ] } ]
output [
  { name: "tumor_probability" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "mask_probability" data_type: TYPE_FP32 dims: [ 256, 256 ] }
]
ensemble_scheduling { step [
  {
    model_name: "tumor_detector" model_version: -1
    input_map { key: "image" value: "image" }
    output_map { key: "tumor_probability" value: "tumor_probability" }
  },
  {
    model_name: "tumor_segmenter" model_version: -1
    input_map { key: "image" value: "image" }
    output_map { key: "mask_probability" value: "mask_probability" }
  }
] }
"""

_BATCHING = "\ndynamic_batching { default_queue_policy { max_queue_size: 128 } }\n"

_FUSED = """\
name: "brain_tumor"
backend: "onnxruntime"
max_batch_size: 32
input [ { name: "image" data_type: TYPE_UINT8 dims: [ 256, 256, 3 ] } ]
output [
  { name: "tumor_probability" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "tumor_mask" data_type: TYPE_UINT8 dims: [ 256, 256 ] }
]
dynamic_batching { default_queue_policy { max_queue_size: 128 } }
instance_group [ { kind: KIND_CPU count: 1 } ]
optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }
"""


def networks_of(repository: Path, engine: str) -> Networks:
    """The networks that an engine is given of the version that a model repository serves, and its operating point."""
    version = str(max(int(path.name) for path in (repository / ENSEMBLE.name).iterdir() if path.name.isdecimal()))
    point = json.loads((repository / ENSEMBLE.name / version / "operating_point.json").read_text())
    file = "model_cpu.onnx" if engine in IN_8_BITS else "model.onnx"
    detector, segmenter = (repository / model.name / version / file for model in (DETECTOR, SEGMENTER))
    thresholds = (point["detection_threshold"], point["mask_threshold"])
    return Networks(str(detector.absolute()), str(segmenter.absolute()), *thresholds, engine)


def build_batching_networks(repository: Path, destination: Path) -> Path:
    """The networks for clients that decide themselves; the gate, beside them, is asked nothing."""
    _copy_networks(repository, destination)
    shutil.copytree(repository / ENSEMBLE.name, destination / ENSEMBLE.name)
    return destination


def build_plain_ensemble(repository: Path, destination: Path) -> Path:
    """Triton's ensemble scheduler in the gate's place, as Triton's own guide to ensembles sets one up."""
    return _build(repository, destination, _PLAIN_ENSEMBLE)


def build_fused(repository: Path, destination: Path, networks: Networks) -> Path:
    """The fused graph in the gate's place."""
    _build(repository, destination, _FUSED)
    write_fused(networks, destination / ENSEMBLE.name / "1" / "model.onnx")
    return destination


def _build(repository: Path, destination: Path, config: str) -> Path:
    _copy_networks(repository, destination)
    (destination / ENSEMBLE.name / "1").mkdir(parents=True)
    (destination / ENSEMBLE.name / "config.pbtxt").write_text(config)
    return destination


def _copy_networks(repository: Path, destination: Path) -> None:
    """Begins a repository with networks that join requests, as Triton's guides would have it; the gate's need not."""
    shutil.rmtree(destination, ignore_errors=True)
    for model in (DETECTOR, SEGMENTER):
        shutil.copytree(repository / model.name, destination / model.name)
        for config in (destination / model.name).rglob("*.pbtxt"):
            config.write_text(config.read_text() + _BATCHING)
