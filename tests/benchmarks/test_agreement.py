"""Whether answers are those of the engines."""

import numpy as np
import pytest

from benchmarks.agreement import References, WrongAnswersError
from benchmarks.measured import Measured

SLICES = 96
PLACES = range(SLICES)
LEFT, RIGHT = (np.kron(half, np.ones((256, 128), np.uint8)) for half in ([[1, 0]], [[0, 1]]))
SPECK, LARGER_SPECK = (np.pad(np.ones((rows, 10), np.uint8), ((0, 256 - rows), (0, 246))) for rows in (10, 14))


def answers(opened, mask=LEFT, slices=SLICES):
    """The gate opens for the first so many slices; all of them show the same mask."""
    passed = [place < opened for place in range(slices)]
    masks = [mask * each for each in passed]
    return Measured.of(1.0, np.ones(slices), masks, passed)


def test_networks_in_32_bits_are_held_against_their_own_reference():
    references = References()
    references.check(answers(45), PLACES, 0.35, "model_cpu.onnx")

    # 2 of 96 otherwise is more than the same networks may.
    references.check(answers(43), PLACES, 0.35, "model.onnx")
    references.check(answers(43), PLACES, 0.35, "model.onnx")
    references.check(answers(45), PLACES, 0.35, "model_cpu.onnx")

    with pytest.raises(WrongAnswersError, match=r"decides otherwise in 2.1% of the slices"):
        references.check(answers(45), PLACES, 0.35, "model.onnx")


def test_networks_that_are_rounded_otherwise_agree_more_loosely():
    references = References()
    references.check(answers(45), PLACES, 0.35, "model_cpu.onnx")

    with pytest.raises(WrongAnswersError, match=r"decides otherwise in 15.6% of the slices"):
        references.check(answers(60), PLACES, 0.35, "model.onnx")
    # Who is wrong is no reference.
    references.check(answers(45), PLACES, 0.35, "model.onnx")


def test_a_mask_in_the_wrong_place_is_wrong_however_large_it_is():
    references = References()
    references.check(answers(45, LEFT), PLACES, 0.35, "model.onnx")

    with pytest.raises(WrongAnswersError, match=r"masks differ by 200.0% of their pixels"):
        references.check(answers(45, RIGHT), PLACES, 0.35, "model.onnx")


def test_of_a_speck_a_few_pixels_may_differ():
    references = References()
    references.check(answers(45, SPECK), PLACES, 0.0, "model_cpu.onnx")

    references.check(answers(45, LARGER_SPECK), PLACES, 0.0, "model.onnx")

    with pytest.raises(WrongAnswersError, match=r"masks differ by 6.1% of their pixels"):
        references.check(answers(45, LARGER_SPECK), PLACES, 0.0, "model_cpu.onnx")


def test_slices_that_were_asked_about_over_and_over_are_each_held_against_the_same():
    references = References()
    references.check(answers(1, slices=2), range(2), 0.35, "model.onnx")
    masks = [LEFT, np.zeros_like(LEFT)] * 2

    references.check(Measured.of(1.0, np.ones(4), masks, [True, False] * 2), [0, 1, 0, 1], 0.35, "model.onnx")


def test_another_prevalence_has_another_reference():
    references = References()
    references.check(answers(45), PLACES, 0.35, "model.onnx")
    references.check(answers(96), PLACES, 1.0, "model.onnx")
