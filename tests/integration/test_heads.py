"""`brain_volume` in a real Triton, between networks whose answers are known, asked by a plain `tritonclient`."""

import threading
import time

import numpy as np
import pytest
import tritonclient.grpc
from support.gate_counts import counted
from support.tiny_networks import NEIGHBOURS, poisoned, slices
from tritonclient.utils import InferenceServerException

from gate.neighbours import Neighbours
from gliogate import Client, contract

OUTPUTS = [tensor.name for tensor in contract.VOLUME.outputs]
PROBABILITY, MASK, SEGMENTED = (t.name for t in (contract.TUMOR_PROBABILITY, contract.TUMOR_MASK, contract.SEGMENTED))
LEVELS = (0.125, 0.25, 0.75, 0.75, 0.4375, 0.75, 0.125, 0.6875, 0.0625)


def inputs_of(images, spacing_mm=None):
    image = tritonclient.grpc.InferInput(contract.IMAGE.name, images.shape, "UINT8")
    image.set_data_from_numpy(images)
    if spacing_mm is None:
        return [image]
    spacing = tritonclient.grpc.InferInput(contract.SLICE_SPACING_MM.name, [1], "FP32")
    spacing.set_data_from_numpy(np.array([spacing_mm], np.float32))
    return [image, spacing]


@pytest.fixture(scope="module")
def ask(tiny_server):
    with tritonclient.grpc.InferenceServerClient(tiny_server.url) as client:

        def ask(images, spacing_mm=None, *, outputs=OUTPUTS, **parameters):
            wanted = [tritonclient.grpc.InferRequestedOutput(name) for name in outputs]
            result = client.infer(
                contract.VOLUME.name, inputs_of(images, spacing_mm), outputs=wanted, parameters=parameters or None
            )
            return {name: result.as_numpy(name) for name in outputs}

        yield ask


def judged(levels, spacing_mm):
    return Neighbours(**NEIGHBOURS).judge(np.array(levels, np.float32)[:, np.newaxis], spacing_mm)


@pytest.mark.parametrize("spacing_mm", [None, 1.0, 3.0, 8.0, 20.0])
def test_slices_are_judged_among_their_neighbours_by_millimetres(ask, spacing_mm):
    answer = ask(slices(*LEVELS), spacing_mm)

    expected = judged(LEVELS, spacing_mm)
    np.testing.assert_allclose(answer[PROBABILITY], expected, atol=1e-6)
    opened = expected[:, 0] >= 0.5
    assert answer[SEGMENTED][:, 0].tolist() == opened.tolist()
    assert answer[MASK].mean(axis=(1, 2)).tolist() == (np.array(LEVELS) * opened).tolist()


def test_outputs_have_the_types_and_shapes_of_the_contract(ask):
    answer = ask(slices(*LEVELS))

    types = {"FP32": np.float32, "UINT8": np.uint8, "BOOL": np.bool_}
    for name, dtype, shape in contract.VOLUME.outputs:
        assert answer[name].dtype == types[dtype]
        assert answer[name].shape == tuple(len(LEVELS) if size == contract.SLICES else size for size in shape)


def test_context_is_not_answered(ask):
    whole = ask(slices(*LEVELS), 5.0)

    part = ask(slices(*LEVELS[2:]), 5.0, context_before=2, context_after=1)

    for name, values in part.items():
        np.testing.assert_array_equal(values, whole[name][4:8])


def test_the_gates_parameters_are_this_ones_too(ask):
    assert ask(slices(*LEVELS), gate="always")[MASK].mean(axis=(1, 2)).tolist() == list(LEVELS)
    assert not ask(slices(*LEVELS), gate="never")[MASK].any()
    assert ask(slices(*LEVELS), 20.0, detection_threshold=0.125)[SEGMENTED][:, 0].tolist() == [
        level >= 0.125 for level in LEVELS
    ]


@pytest.mark.parametrize(
    ("images", "spacing_mm", "parameters", "reason"),
    [
        (slices(0.5), -1.0, {}, "tensor 'slice_spacing_mm' is -1, expected above 0 and at most 100"),
        (slices(0.5), float("nan"), {}, "tensor 'slice_spacing_mm' is nan"),
        (slices(0.5), None, {"context_before": 1}, "there is none to answer"),
        (slices(0.5), None, {"context_after": "x"}, "context_after is 'x', expected a whole number from 0 to 256"),
        (slices(0.5), None, {"gate": "open"}, "gate is 'open', expected one of auto, always, never"),
        (slices(0.5), None, {"reach_mm": 3}, "unknown parameter 'reach_mm'"),
        (slices(0.5)[:0], None, {}, "tensor 'image' has 0 slices"),
        (np.zeros((257, 256, 256, 3), np.uint8), None, {}, "257 slices, expected at most 256"),
        (np.zeros((2, 128, 128, 3), np.uint8), None, {}, "image"),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_by_name(ask, images, spacing_mm, parameters, reason):
    with pytest.raises(InferenceServerException) as refused:
        ask(images, spacing_mm, **parameters)

    assert "INVALID_ARGUMENT" in str(refused.value.status())
    assert reason in refused.value.message()


def test_the_largest_head_is_answered(ask):
    answer = ask(slices(*[0.25] * (contract.MOST_SLICES - 6), *[0.75] * 6), outputs=[PROBABILITY, MASK])

    assert answer[MASK].any(axis=(1, 2)).sum() == 6


def test_a_head_that_a_network_fails_on_fails_alone(ask):
    images = slices(*LEVELS)
    images[3:4] = poisoned(images[3:4], contract.SEGMENTER)

    with pytest.raises(InferenceServerException, match="tumor_segmenter"):
        ask(images)
    assert ask(images, outputs=[PROBABILITY])[PROBABILITY].shape == (len(LEVELS), 1)
    assert ask(slices(*LEVELS))[MASK].any()


def test_others_are_answered_while_a_head_is_worked_on(tiny_server):
    """Between two of its chunks: a head of 32 of them does not keep anybody waiting for its end."""
    ended = threading.Event()
    with tritonclient.grpc.InferenceServerClient(tiny_server.url) as client, Client(tiny_server.url) as other:
        client.async_infer(
            contract.VOLUME.name,
            inputs_of(slices(*[0.75] * contract.MOST_SLICES)),
            lambda result, error: ended.set(),  # noqa: ARG005
        )
        answered = 0
        while not ended.is_set():
            assert other.analyze(slices(0.75)[0]).tumor
            answered += 1

    assert answered > 3


def test_one_that_nobody_waits_for_is_given_up_and_counted(ask, tiny_server):
    cancelled = 'gliogate_requests_total{outcome="cancelled"}'
    before = counted(tiny_server.metrics_url).get(cancelled, 0)
    with tritonclient.grpc.InferenceServerClient(tiny_server.url) as client:

        def detected():
            return client.get_inference_statistics(contract.DETECTOR.name).model_stats[0].inference_count

        at_first = detected()
        call = client.async_infer(
            contract.VOLUME.name,
            inputs_of(slices(*[0.75] * contract.MOST_SLICES)),
            lambda result, error: None,  # noqa: ARG005
        )
        while detected() == at_first:
            time.sleep(0.001)
        call.cancel()

    assert ask(slices(*LEVELS))[MASK].any()
    assert counted(tiny_server.metrics_url).get(cancelled, 0) == before + 1


def test_its_slices_are_counted_with_the_others_and_its_time_is_not(ask, tiny_server):
    before = counted(tiny_server.metrics_url)

    ask(slices(*LEVELS), 5.0)

    after = counted(tiny_server.metrics_url)
    grown = {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
    opened = int((judged(LEVELS, 5.0) >= 0.5).sum())
    assert grown['gliogate_slices_total{decision="opened"}'] == opened
    assert grown['gliogate_slices_total{decision="shut"}'] == len(LEVELS) - opened
    assert grown['gliogate_requests_total{outcome="answered"}'] == 1
    # A head takes as long as it has slices; the alerts on latency are about single ones.
    assert not [name for name in grown if name.startswith(("gliogate_request_seconds", "gliogate_batch_rows"))]
