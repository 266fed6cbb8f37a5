"""The gate's own array code, run once where it will work, before anybody waits for it.

CuPy can be imported without a GPU, without a driver, and beside a CUDA that it was not built for. What is wrong shows
with the first array. Kernels are compiled when they are first used, which takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import gating

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

OUTPUTS = frozenset(
    (
        gating.TUMOR_PROBABILITY,
        gating.TUMOR_MASK,
        gating.MASK_PROBABILITY,
        gating.SEGMENTED,
        gating.THRESHOLDS,
        gating.CERTAINTY,
        gating.RELIABILITY,
    )
)
SETTINGS = gating.Settings(detection_threshold=0.5, mask_threshold=0.5)
PROBABILITY = np.array([[0.9], [0.8], [0.1]], np.float32)
"""What the detector is made to say of three slices: two of them are segmented."""


def rehearse(xp: ModuleType, passed_on: Callable[[gating.Array], gating.Array]) -> None:
    """Gates made-up slices with an array module, by made-up networks, and checks the answers.

    Args:
        xp: `cupy`, or any other array module.
        passed_on: hands an array to another model and back, without the model.

    Raises:
        RuntimeError: an answer is not what NumPy gives.
        Exception: whatever the array module raises.
    """
    slices = np.random.default_rng(0).integers(0, 256, (len(PROBABILITY), *gating.SLICE), np.uint8)
    expected, counts = _answers(slices, np, lambda array: array)
    # As they come from a client by way of the host's memory, and as they come by CUDA shared memory.
    for images in (slices, xp.asarray(slices)):
        answers, counted = _answers(images, xp, passed_on)
        for found, right in zip(answers, expected, strict=True):
            for name, array in right.items():
                answer = found[name] if isinstance(found[name], np.ndarray) else xp.asnumpy(found[name])
                # A sum depends on the order in which it is added up.
                if not (
                    np.allclose(answer, array, atol=1e-5) if name == gating.CERTAINTY else np.array_equal(answer, array)
                ):
                    raise RuntimeError(f"its '{name}' of some slices is not NumPy's")
        if counted != counts:
            raise RuntimeError(f"its count of some slices is not NumPy's: {counted}, expected {counts}")


def _answers(
    images: gating.Array, xp: ModuleType, passed_on: Callable[[gating.Array], gating.Array]
) -> tuple[list[dict[str, gating.Array]], gating.Tally]:
    """The answers to two requests that are joined, of one slice and of two, and what was counted of them."""
    masks = np.random.default_rng(1).random((2, *gating.SLICE[:2]), np.float32)
    masks[1] = 0

    def detect(batch: gating.Array) -> gating.Array:
        passed_on(batch)
        return passed_on(xp.asarray(PROBABILITY))

    def segment(batch: gating.Array) -> gating.Array:
        passed_on(batch)
        return passed_on(xp.asarray(masks))

    requests = [gating.Request(images[rows], SETTINGS, OUTPUTS) for rows in (slice(0, 1), slice(1, 3))]
    answers, tally = [], gating.Tally()
    for answer in gating.run(requests, detect, segment, xp, tally):
        if isinstance(answer, Exception):
            raise answer
        answers.append(answer)
    return answers, tally
