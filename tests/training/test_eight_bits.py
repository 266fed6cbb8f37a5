"""Rounding to 8 bits, on networks small enough to see through."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.row_of_convolutions import network

from gliogate.contract import DETECTOR, SEGMENTER, Model
from training.data import Dataset, phantoms
from training.eight_bits import write_for_cpu
from training.onnx_files import answer, answer_on_cpu


@pytest.fixture(scope="module")
def slices() -> Dataset:
    return phantoms(12, prevalence=0.5, seed=1)


def operators(path: Path) -> list[tuple[str, bool]]:
    """Each convolution, and whether it computes in 8 bits."""
    graph = onnx.load(path).graph
    rounded = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return [(node.name, node.input[1] in rounded) for node in graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_between_convolutions_in_8_bits_nothing_is_left_in_32(activation: str, slices: Dataset, tmp_path: Path) -> None:
    """What is below zero or above six is cut off by the range that 8 bits have."""
    exact = network(SEGMENTER, tmp_path / "model.onnx", activation=activation)

    write_for_cpu(exact, SEGMENTER, slices.images, slices, 0.5)

    left = [node.name for node in onnx.load(tmp_path / "model_cpu.onnx").graph.node if node.op_type == activation]
    # Those behind the convolutions that stay as they are, and the last, behind which there is no convolution.
    assert left == ["activation0", "activation1", "activation2", "activation4"]
    before, after = answer(exact, slices.images), answer_on_cpu(tmp_path / "model_cpu.onnx", slices.images)
    assert 0 < np.abs(before - after).max() < 0.02


@pytest.mark.parametrize("model", [DETECTOR, SEGMENTER], ids=lambda model: model.name)
def test_a_network_that_loses_nothing_is_served_in_8_bits_but_for_its_beginning(
    model: Model, slices: Dataset, tmp_path: Path
) -> None:
    exact = network(model, tmp_path / "model.onnx")

    rounding = write_for_cpu(exact, model, slices.images, slices, 0.5)

    assert rounding.bits == 8
    assert rounding.served_difference == rounding.largest_difference
    assert rounding.exact is not None
    assert rounding.rounded is not None
    assert rounding.exact - rounding.rounded <= 0.005
    assert rounding.slices == 12
    served = tmp_path / "model_cpu.onnx"
    assert [rounded for _, rounded in operators(served)] == [False, False, False, True, True]
    assert 0 < rounding.largest_difference < 0.02
    difference = np.abs(answer_on_cpu(served, slices.images) - answer(exact, slices.images)).max()
    assert difference == pytest.approx(rounding.largest_difference, abs=1e-4)


def test_a_network_that_loses_by_it_is_served_as_it_is(slices: Dataset, tmp_path: Path) -> None:
    exact = network(SEGMENTER, tmp_path / "model.onnx")
    # The range is learned from slices a hundred times darker: all that is brighter comes out the same.
    dark = slices.images // 100

    rounding = write_for_cpu(exact, SEGMENTER, dark, slices, 0.5)

    assert rounding.bits == 32
    assert rounding.served_difference == 0
    assert rounding.exact is not None
    assert rounding.rounded is not None
    assert rounding.exact - rounding.rounded > 0.005
    assert (tmp_path / "model_cpu.onnx").read_bytes() == exact.read_bytes()


def test_what_rounding_does_to_all_logits_alike_is_taken_back(slices: Dataset, tmp_path: Path) -> None:
    exact = network(DETECTOR, tmp_path / "model.onnx", end="Sigmoid")

    rounding = write_for_cpu(exact, DETECTOR, slices.images, slices, 0.5)

    assert rounding.bits == 8
    logits = [
        np.log(probability / (1 - probability))
        for probability in (
            answer(exact, slices.images),
            answer_on_cpu(tmp_path / "model_cpu.onnx", slices.images),
        )
    ]
    shifts = logits[1] - logits[0]
    assert np.abs(shifts).max() > 1e-4
    assert abs(shifts.mean()) < 1e-6


def test_what_cannot_be_judged_is_not_rounded(slices: Dataset, tmp_path: Path) -> None:
    exact = network(DETECTOR, tmp_path / "model.onnx")
    healthy = slices.at(np.flatnonzero(~slices.tumor))

    rounding = write_for_cpu(exact, DETECTOR, slices.images, healthy, 0.5)

    assert rounding.bits == 32
    assert rounding.exact is rounding.rounded is None
