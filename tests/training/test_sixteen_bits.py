"""Rounding to 16 bits, on networks small enough to see through."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.row_of_convolutions import network

from gliogate.contract import DETECTOR, SEGMENTER, Model
from training.data import Dataset, phantoms
from training.errors import ParityError
from training.onnx_files import answer
from training.sixteen_bits import write_for_gpu


@pytest.fixture(scope="module")
def slices() -> Dataset:
    return phantoms(12, prevalence=0.5, seed=1)


@pytest.mark.parametrize("model", [DETECTOR, SEGMENTER], ids=lambda model: model.name)
def test_a_network_that_loses_nothing_is_served_in_16_bits(model: Model, slices: Dataset, tmp_path: Path) -> None:
    exact = network(model, tmp_path / "model.onnx", activation="Relu")

    rounding = write_for_gpu(exact, model, slices, 0.5)

    assert rounding.bits == 16
    assert rounding.slices == 12
    difference = np.abs(answer(tmp_path / "model_gpu.onnx", slices.images) - answer(exact, slices.images)).max()
    assert 0 < difference < 1e-3
    assert rounding.largest_difference == pytest.approx(difference, abs=1e-4)


def test_a_network_whose_values_are_too_large_for_16_bits_is_served_as_it_is(slices: Dataset, tmp_path: Path) -> None:
    # Beyond 65504 there is only infinity.
    exact = network(SEGMENTER, tmp_path / "model.onnx", factors=(3e4, 300.0, 1 / 9e6))

    rounding = write_for_gpu(exact, SEGMENTER, slices, 0.5)

    assert rounding.bits == 32
    assert (tmp_path / "model_gpu.onnx").read_bytes() == exact.read_bytes()


def test_what_tensorrt_does_not_take_is_refused(slices: Dataset, tmp_path: Path) -> None:
    exact = network(SEGMENTER, tmp_path / "model.onnx")
    model = onnx.load(exact)
    squeeze = model.graph.node[-1]
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("Det", [squeeze.input[0]], ["det"], "det"))
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("Unsqueeze", ["det", "ends"], ["ones"]))
    model.graph.node.insert(
        len(model.graph.node) - 1, onnx.helper.make_node("Mul", ["ones", squeeze.input[0]], ["product"])
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "ends"))
    squeeze.input[0] = "product"
    onnx.save(model, exact)

    with pytest.raises(ParityError, match=r"TensorRT would not take .*model_gpu.onnx.*: Det 'det': not supported"):
        write_for_gpu(exact, SEGMENTER, slices, 0.5)
