"""A gate that is to run on a GPU tries it when it is loaded, and refuses to be loaded where its work would fail."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from support.device_arrays import Device, DeviceArray
from support.tiny_networks import newest_version

from gate.rehearsal import rehearse
from gliogate.embedded import find_model_repository


class RefusedError(Exception):
    """Triton's own, by which a model says that it cannot be loaded."""


class Tensor:
    """What Triton hands from one model to another."""

    def __init__(self, _name, array):
        self.array = array

    @classmethod
    def from_dlpack(cls, name, array):
        return cls(name, array)

    def to_dlpack(self):
        return self.array

    def is_cpu(self):
        return isinstance(self.array, np.ndarray)

    def as_numpy(self):
        return self.array


class Cupy(Device, ModuleType):
    """CuPy as far as the gate uses it, on a GPU that works, or raises `error`."""

    __version__ = "13.6.0"

    def __init__(self, error=None):
        ModuleType.__init__(self, "cupy")
        Device.__init__(self)
        self.error = error
        self.devices = []
        self.cuda = SimpleNamespace(Device=self._device)

    def _device(self, number):
        self.devices.append(number)
        return self

    def __enter__(self):
        if self.error is not None:
            raise self.error

    def __exit__(self, *_):
        return None

    def from_dlpack(self, array):
        return array


@pytest.fixture
def load(monkeypatch):
    """Loads the gate on GPU 1 as Triton does, beside a CuPy; None is one that is not installed."""
    warnings = []
    utils = ModuleType("triton_python_backend_utils")
    utils.TritonModelException = RefusedError
    utils.Tensor = Tensor
    utils.Logger = SimpleNamespace(log_warn=warnings.append, log_info=lambda _: None)
    utils.MetricFamily = lambda **_: SimpleNamespace(Metric=lambda **_: SimpleNamespace(increment=lambda _: None))
    utils.MetricFamily.COUNTER = "counter"
    monkeypatch.setitem(sys.modules, utils.__name__, utils)

    def load(cupy):
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        for name in ("gate.model", "gate.counters"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        model = importlib.import_module("gate.model").TritonPythonModel()
        version = newest_version(find_model_repository())
        config = (
            '{"name": "brain_tumor", "max_batch_size": 32, "parameters": {}, '
            '"input": [{"name": "image", "reshape": {"shape": ["1", "256", "256", "3"]}}]}'
        )
        model.initialize(
            {
                "model_name": "brain_tumor",
                "model_repository": str(version.parent),
                "model_version": version.name,
                "model_config": config,
                "model_instance_kind": "GPU",
                "model_instance_device_id": "1",
            }
        )
        model.finalize()
        return warnings

    return load


def test_a_gpu_on_which_nothing_works_is_refused_with_the_reason(load):
    error = RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")
    with pytest.raises(RefusedError) as refused:
        load(Cupy(error))
    assert "GPU 1" in str(refused.value)
    assert "CuPy 13.6.0" in str(refused.value)
    assert str(error) in str(refused.value)


def test_a_gpu_that_works_is_tried_with_the_gates_own_work(load):
    cupy = Cupy()
    assert load(cupy) == []
    assert cupy.devices == [1]
    assert (3, 256, 256, 3) in cupy.uploads
    assert (3, 1) in cupy.downloads


def test_without_cupy_the_gate_works_in_the_hosts_memory_and_says_why(load):
    [warning] = load(None)
    assert "host memory" in warning
    assert "cupy" in warning.partition("(")[2]


def test_a_device_that_answers_wrongly_is_found():
    class Wrong(Device):
        def asnumpy(self, array):
            return np.zeros_like(super().asnumpy(array))

    rehearse(Device(), passed_on=lambda array: array)
    with pytest.raises(RuntimeError, match="is not NumPy's"):
        rehearse(Wrong(), passed_on=lambda array: array)


def test_a_device_that_counts_wrongly_is_found(monkeypatch):
    right = DeviceArray.sum
    monkeypatch.setattr(
        DeviceArray, "sum", lambda self, axis=None: right(self, axis) if axis else DeviceArray(np.array(len(self)))
    )

    with pytest.raises(RuntimeError, match=r"its count of some slices is not NumPy's: .*suspicious=0.*suspicious=1"):
        rehearse(Device(), passed_on=lambda array: array)


def test_the_way_between_models_is_tried_too():
    def lost(array):
        raise RuntimeError("no DLPack") if isinstance(array, DeviceArray) else AssertionError("not on the device")

    with pytest.raises(RuntimeError, match="no DLPack"):
        rehearse(Device(), passed_on=lost)
