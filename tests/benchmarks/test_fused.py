"""The fused graph, and the pair that peers are made of, around networks whose answers are known."""

import numpy as np
import onnxruntime
import pytest
from tiny_networks import slices

from benchmarks.fused import write_fused
from benchmarks.pair import ENVIRONMENT, OURS, Networks, Pair, open_network
from benchmarks.repositories import networks_of

LEVELS = {"some pass": (0.25, 0.75, 0.5, 0.0), "all pass": (0.75, 1.0), "none passes": (0.25, 0.0)}


@pytest.fixture(scope="module")
def networks(tiny_repository):
    return networks_of(tiny_repository, OURS)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_one_graph_answers_as_the_pair_does(networks, levels, tmp_path):
    path = write_fused(networks, tmp_path / "model.onnx")
    images = slices(*levels)

    probability, masks = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        ["tumor_probability", "tumor_mask"], {"image": images}
    )

    expected_probability, expected_masks = Pair(networks).analyze(images)
    np.testing.assert_array_equal(probability[:, 0], expected_probability)
    np.testing.assert_array_equal(masks, expected_masks)
    assert masks.dtype == np.uint8
    assert masks.mean(axis=(1, 2)).tolist() == [level * (level >= 0.5) for level in levels]


def test_a_reply_is_the_probability_and_the_mask_behind_it(networks):
    shut, opened = Pair(networks).replies([image.tobytes() for image in slices(0.25, 0.75)])

    assert np.frombuffer(shut[:4], np.float32) == 0.25
    assert not any(shut[4:])
    assert np.frombuffer(opened[4:], np.uint8).mean() == 0.75


def test_networks_come_back_from_the_file_that_the_environment_names(networks, tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, str(networks.write(tmp_path / "networks.json")))

    assert Networks.from_environment() == networks


def test_an_engine_that_is_not_there_is_named(networks):
    with pytest.raises(
        ValueError, match="engine is 'steam', expected onnxruntime, ours, onnxruntime int8, openvino fp32"
    ):
        open_network(networks.detector, "steam")
