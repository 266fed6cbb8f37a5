"""How many bytes a tensor has on the wire."""

import math

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from gliogate.contract import Tensor


def bytes_of(tensor: Tensor) -> int:
    """The bytes of one slice's part of a tensor."""
    return math.prod(tensor.shape) * np.dtype(triton_to_np_dtype(tensor.dtype)).itemsize
