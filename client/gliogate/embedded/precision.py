"""In how many bits the networks compute on this processor."""

from __future__ import annotations

from typing import Final

from gliogate import processor

IN_32_BITS: Final = "fp32"
"""`configs/fp32.pbtxt` of the networks, as `--model-config-name` of Triton chooses it."""

_DOT_PRODUCTS: Final = frozenset({"avx512_vnni", "avx_vnni"})


def suitable_config() -> str:
    """Which of the models' configurations suits this processor; empty is their `config.pbtxt`, in 8 bits.

    Where there are no instructions for dot products of 8 bits (VNNI), 8 bits take ONNX Runtime longer than 32 do.
    """
    return IN_32_BITS if _DOT_PRODUCTS.isdisjoint(processor.features()) else ""
