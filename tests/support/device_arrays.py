"""An array module that stands in for CuPy: NumPy inside, and as strict as a GPU about what lies where.

An array of the device and one of the host do not mix; only `asarray` and `asnumpy` take one to the other, and both are
counted.
"""

import numpy as np


class DeviceArray:
    """An array that no NumPy function takes."""

    __array_ufunc__ = None

    def __init__(self, values):
        self._values = values

    def __array__(self, *_arguments, **_options):
        raise TypeError("an array of the device is not converted without being asked")

    def __len__(self):
        return len(self._values)

    @property
    def shape(self):
        return self._values.shape

    @property
    def dtype(self):
        return self._values.dtype

    def __getitem__(self, key):
        return DeviceArray(self._values[_on_device(key)])

    def __setitem__(self, key, values):
        self._values[_on_device(key)] = _on_device(values)

    def __ge__(self, other):
        return DeviceArray(self._values >= _on_device(other))

    def __iand__(self, other):
        self._values &= _on_device(other)
        return self

    def __int__(self):
        if self.shape:
            raise TypeError("an array of several numbers is none")
        return int(self._values)

    def any(self, axis):
        return DeviceArray(self._values.any(axis))

    def sum(self, axis=None):
        return DeviceArray(self._values.sum(axis))

    def __truediv__(self, other):
        return DeviceArray(self._values / _on_device(other))

    def astype(self, dtype):
        return DeviceArray(self._values.astype(dtype))

    def view(self, dtype):
        return DeviceArray(self._values.view(dtype))


class Device:
    """The module, as `gating.run` takes it.

    Attributes:
        uploads: shapes of the arrays that went to the device.
        downloads: shapes of those that came back.
    """

    def __init__(self):
        self.uploads, self.downloads = [], []

    def asarray(self, array):
        if isinstance(array, DeviceArray):
            return array
        self.uploads.append(array.shape)
        return DeviceArray(np.array(array))

    def asnumpy(self, array):
        self.downloads.append(array.shape)
        return array._values.copy()

    def zeros(self, shape, dtype):
        return DeviceArray(np.zeros(shape, dtype))

    def where(self, condition, one, other):
        return DeviceArray(np.where(_on_device(condition), _on_device(one), _on_device(other)))

    def maximum(self, array, number):
        return DeviceArray(np.maximum(_on_device(array), number))

    def concatenate(self, arrays):
        return DeviceArray(np.concatenate([_on_device(array) for array in arrays]))


def _on_device(value):
    if isinstance(value, np.ndarray):
        raise TypeError("an array of the host among those of the device")
    if isinstance(value, tuple):
        return tuple(_on_device(part) for part in value)
    return value._values if isinstance(value, DeviceArray) else value
