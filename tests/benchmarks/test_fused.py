"""The fused graph, and the pair that peers are made of, around networks whose answers are known.

OpenVINO runs in a process of its own: in one with Helm's engine, which is written in Go, it ends both.
"""

import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from support.tiny_networks import slices

from benchmarks.fused import write_fused
from benchmarks.pair import ENVIRONMENT, OURS, Networks, Pair, open_network
from benchmarks.repositories import networks_of

LEVELS = {"some pass": (0.25, 0.75, 0.5, 0.0), "all pass": (0.75, 1.0), "none passes": (0.25, 0.0)}


ANALYZE = """
import sys
import numpy as np
from benchmarks.pair import Networks, Pair
images, answers = sys.argv[1:]
probability, masks = Pair(Networks.from_environment()).analyze(np.load(images))
np.savez(answers, probability=probability, masks=masks)
"""


@pytest.fixture(scope="module")
def networks(tiny_repository):
    return networks_of(tiny_repository, "onnxruntime int8")


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


def test_our_engine_answers_as_the_documented_one_does(tiny_repository, networks, tmp_path):
    images = slices(0.25, 0.75, 0.5, 0.0)
    ours = networks_of(tiny_repository, OURS).write(tmp_path / "networks.json")
    np.save(tmp_path / "images.npy", images)

    subprocess.run(
        [sys.executable, "-c", ANALYZE, tmp_path / "images.npy", tmp_path / "answers.npz"],
        env=os.environ | {ENVIRONMENT: str(ours)},
        check=True,
        timeout=60,
    )

    probability, masks = Pair(networks).analyze(images)
    answers = np.load(tmp_path / "answers.npz")
    np.testing.assert_allclose(answers["probability"], probability, atol=1e-6)
    np.testing.assert_array_equal(answers["masks"], masks)


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
