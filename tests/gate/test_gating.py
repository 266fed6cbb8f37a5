"""The gate's source, `gate/gating.py`, as array code.

The networks are functions of the slices' FLAIR channel; every call of them is counted.
"""

import json
import math
import weakref
from dataclasses import replace

import numpy as np
import pytest
from support.device_arrays import Device, DeviceArray
from support.tiny_networks import FLAIR, newest_version, slices

from gate import gating, rehearsal
from gliogate import contract

ALL = frozenset(tensor.name for tensor in contract.ENSEMBLE.outputs)
PROBABILITY = contract.TUMOR_PROBABILITY.name
MASK = contract.TUMOR_MASK.name
MASK_PROBABILITY = contract.MASK_PROBABILITY.name
SEGMENTED = contract.SEGMENTED.name
THRESHOLDS = contract.THRESHOLDS.name
CERTAINTY = contract.CERTAINTY.name
RELIABILITY = contract.RELIABILITY.name


class Network:
    """A network that remembers how many slices each call had, and can be told to fail."""

    def __init__(self, answer):
        self._answer = answer
        self.calls = []
        self.error = None

    def __call__(self, images):
        self.calls.append(len(images))
        if self.error is not None:
            raise self.error
        return self._answer(images[..., FLAIR].astype(np.float32) / 255)


@pytest.fixture
def detect():
    return Network(lambda flair: flair.mean(axis=(1, 2), dtype=np.float32)[:, np.newaxis])


@pytest.fixture
def segment():
    return Network(lambda flair: flair)


@pytest.fixture
def request_for():
    """Makes requests that start from an operating point of 0.5 and 0.5."""
    operating_point = gating.Settings(detection_threshold=0.5, mask_threshold=0.5)

    def make(*levels, outputs=ALL, is_cancelled=lambda: False, **parameters):
        return gating.Request(slices(*levels), operating_point.updated(parameters), frozenset(outputs), is_cancelled)

    return make


def test_only_the_slices_that_pass_are_segmented_from_all_requests_together(request_for, detect, segment):
    first, second, third = gating.run(
        [request_for(0.25, 0.75), request_for(0.0), request_for(1.0, 0.125, 0.625)], detect, segment
    )

    assert detect.calls == [6]
    assert segment.calls == [3]
    assert first[PROBABILITY].tolist() == [[0.25], [0.75]]
    assert first[SEGMENTED].tolist() == [[False], [True]]
    assert second[MASK].shape == (1, 256, 256)
    assert not second[MASK].any()
    np.testing.assert_array_equal(third[MASK], third[MASK_PROBABILITY])
    assert third[MASK].mean(axis=(1, 2)).tolist() == [1.0, 0.0, 0.625]


def test_outputs_have_the_types_and_shapes_of_the_contract(request_for, detect, segment):
    (outcome,) = gating.run([request_for(0.75, 0.25, 1.0)], detect, segment)

    for tensor in contract.ENSEMBLE.outputs:
        assert outcome[tensor.name].shape == (3, *tensor.shape)
        assert outcome[tensor.name].dtype == {"FP32": np.float32, "UINT8": np.uint8, "BOOL": bool}[tensor.dtype]


def test_a_probability_that_equals_the_threshold_opens_the_gate(request_for, detect, segment):
    level = 0.70703125  # 181 of 256 columns
    just_above = float(np.nextafter(np.float32(level), np.float32(1)))
    at, above = gating.run(
        [request_for(level, detection_threshold=level), request_for(level, detection_threshold=just_above)],
        detect,
        segment,
    )

    assert at[SEGMENTED].item() is True
    assert above[SEGMENTED].item() is False


def test_thresholds_compare_in_the_precision_of_the_probability(request_for, segment):
    def detect(images):
        return np.full((len(images), 1), 0.7, np.float32)  # below 0.7 in FP64

    (outcome,) = gating.run([request_for(0.5, detection_threshold=0.7)], detect, segment)

    assert outcome[SEGMENTED].item() is True


def test_every_request_has_its_own_settings(request_for, detect, segment):
    always, never, strict, lax = gating.run(
        [
            request_for(0.25, gate="always"),
            request_for(1.0, gate="never"),
            request_for(0.75, detection_threshold=0.8),
            request_for(0.75, detection_threshold=0.0),
        ],
        detect,
        segment,
    )

    assert segment.calls == [2]
    assert (always[SEGMENTED].item(), always[MASK].mean()) == (True, 0.25)
    assert (never[SEGMENTED].item(), never[PROBABILITY].item(), never[MASK].any()) == (False, 1.0, False)
    assert (strict[SEGMENTED].item(), strict[MASK].any()) == (False, False)
    assert (lax[SEGMENTED].item(), lax[MASK].mean()) == (True, 0.75)


def test_mask_thresholds_hold_for_their_own_rows(request_for, detect):
    def segment(images):
        return np.full(images.shape[:3], 0.5, np.float32)

    at, above, zero_but_shut = gating.run(
        [
            request_for(1.0, mask_threshold=0.5),
            request_for(1.0, mask_threshold=0.6),
            request_for(0.0, mask_threshold=0.0),
        ],
        detect,
        segment,
    )

    assert at[MASK].all()
    assert not above[MASK].any()
    assert not zero_but_shut[MASK].any()


@pytest.mark.parametrize(
    ("outputs", "parameters", "detector_calls", "segmenter_calls"),
    [
        ([PROBABILITY], {}, [1], []),
        ([PROBABILITY, SEGMENTED], {}, [1], []),
        ([MASK], {}, [1], [1]),
        ([MASK_PROBABILITY], {}, [1], [1]),
        ([MASK], {"gate": "always"}, [], [1]),
        ([MASK, SEGMENTED], {"gate": "never"}, [], []),
        ([PROBABILITY, MASK], {"gate": "never"}, [1], []),
        ([], {}, [], []),
    ],
)
def test_networks_run_only_for_outputs_that_need_them(
    request_for, detect, segment, outputs, parameters, detector_calls, segmenter_calls
):
    (outcome,) = gating.run([request_for(1.0, outputs=outputs, **parameters)], detect, segment)

    assert sorted(outcome) == sorted(outputs)
    assert detect.calls == detector_calls
    assert segment.calls == segmenter_calls


def test_a_request_that_asks_for_probabilities_only_adds_no_rows_to_the_segmenter(request_for, detect, segment):
    gating.run([request_for(1.0, outputs=[PROBABILITY]), request_for(1.0)], detect, segment)

    assert detect.calls == [2]
    assert segment.calls == [1]


def test_a_request_alone_is_not_copied(request_for, segment):
    request = request_for(0.0)
    seen = []

    def detect(images):
        seen.append(np.shares_memory(images, request.images))
        return np.zeros((len(images), 1), np.float32)

    gating.run([request], detect, segment)

    assert seen == [True]


def test_a_segmenter_that_fails_fails_only_those_who_needed_it(request_for, detect, segment):
    segment.error = RuntimeError("out of memory")
    shut, opened, probability_only = gating.run(
        [request_for(0.25), request_for(0.25, 0.75), request_for(1.0, outputs=[PROBABILITY])], detect, segment
    )

    assert shut[PROBABILITY].item() == 0.25
    assert opened is segment.error
    assert probability_only == {PROBABILITY: np.float32(1.0)}


def test_a_detector_that_fails_fails_only_those_who_needed_it(request_for, detect, segment):
    detect.error = RuntimeError("out of memory")
    normal, always = gating.run([request_for(0.75), request_for(0.75, gate="always", outputs=[MASK])], detect, segment)

    assert normal is detect.error
    assert always[MASK].mean() == 0.75
    assert segment.calls == [1]


def test_what_failed_is_not_among_what_became_of_the_slices(request_for, detect, segment):
    segment.error = RuntimeError("out of memory")
    tally = gating.Tally()
    gating.run(
        [request_for(0.75, 0.25), request_for(0.25), request_for(0.75, outputs=[PROBABILITY])],
        detect,
        segment,
        tally=tally,
    )

    assert tally == gating.Tally(rows=2, opened=0, shut=1)


def test_what_a_probe_asks_is_not_among_what_became_of_the_slices(request_for, detect, segment):
    tally = gating.Tally()
    probe = replace(request_for(0.25, gate="always"), is_counted=False)

    [answer, _] = gating.run([probe, request_for(0.75)], detect, segment, tally=tally)

    assert answer[MASK].any()
    assert tally == gating.Tally(rows=1, opened=1, shut=0)


def test_what_opens_the_gate_and_has_an_empty_mask_is_counted_as_suspicious(request_for, detect, segment):
    tally = gating.Tally()
    asked = [
        request_for(0, 0.75, 0, detection_threshold=0),
        request_for(0.25, 0.75, mask_threshold=0.0),
        request_for(0, gate="always"),
        request_for(0, detection_threshold=0, outputs=[PROBABILITY]),
        replace(request_for(0, detection_threshold=0), is_counted=False),
    ]

    gating.run(asked, detect, segment, tally=tally)

    assert tally == gating.Tally(rows=7, opened=5, shut=1, suspicious=2)


def test_an_error_keeps_nothing_alive_of_where_it_was_raised(request_for, segment):
    lost = []

    def detect(_):
        try:
            slices = np.zeros(1)
            lost.append(weakref.ref(slices))
            raise KeyError
        except KeyError:
            masks = np.zeros(1)
            lost.append(weakref.ref(masks))
            raise RuntimeError("out of memory") from None

    (outcome,) = gating.run([request_for(0.75)], detect, segment)

    assert str(outcome) == "out of memory"
    assert [each() for each in lost] == [None, None]


def test_a_network_with_the_wrong_number_of_answers_fails_the_requests(request_for, segment):
    (outcome,) = gating.run([request_for(0.0, 1.0)], lambda _: np.zeros((3, 1), np.float32), segment)

    assert isinstance(outcome, ValueError)


def test_cancelled_requests_are_dropped_before_each_network(request_for, detect, segment):
    early = request_for(1.0, is_cancelled=lambda: True)
    late = request_for(1.0, is_cancelled=lambda: bool(detect.calls))
    patient = request_for(1.0)

    outcomes = gating.run([early, late, patient], detect, segment)

    assert detect.calls == [2]
    assert segment.calls == [1]
    assert [isinstance(outcome, gating.CancelledError) for outcome in outcomes] == [True, True, False]
    assert [outcome.begun for outcome in outcomes[:2]] == [False, True]
    assert outcomes[2][MASK].all()


@pytest.mark.parametrize("value", [0, 1, 0.25, "0.25", np.float32(0.5)])
@pytest.mark.parametrize("name", [contract.DETECTION_THRESHOLD, contract.MASK_THRESHOLD])
def test_thresholds_may_be_numbers_and_numerals(name, value):
    settings = gating.Settings(0.5, 0.5).updated({name: value})

    assert getattr(settings, name) == float(value)


@pytest.mark.parametrize("value", [True, False, None, math.nan, math.inf, -0.1, 1.1, "", "half", "nan", [0.5], {}])
@pytest.mark.parametrize("name", [contract.DETECTION_THRESHOLD, contract.MASK_THRESHOLD])
def test_a_threshold_out_of_range_is_named_with_what_was_found_and_expected(name, value):
    with pytest.raises(gating.InvalidValueError) as error:
        gating.Settings(0.5, 0.5).updated({name: value})

    assert str(error.value) == f"{name} is {value!r}, expected a number from 0 to 1"


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_a_threshold_that_no_float_can_have_is_refused(value):
    with pytest.raises(gating.InvalidValueError, match=r"^mask_threshold is -?10+\.\.\.0+, expected a number"):
        gating.Settings(0.5, 0.5).updated({contract.MASK_THRESHOLD: value})


@pytest.mark.parametrize("name", [*contract.PARAMETERS, "x" * 100_000])
def test_an_error_about_a_long_value_fits_into_a_header(name):
    with pytest.raises(gating.InvalidValueError) as error:
        gating.Settings(0.5, 0.5).updated({name: "1\n" * 100_000})

    assert len(str(error.value)) < 200
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "0.5", "null", "[" * 100_000])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(gating.InvalidValueError, match="expected a JSON object"):
        gating.read_object(text)


def test_slices_are_taken_as_they_are_and_an_image_without_rows_is_refused():
    image = np.zeros((3, 1, *gating.SLICE), np.uint8)

    assert gating.slices_of(image).shape == (3, *gating.SLICE)
    assert gating.slices_of(image).flags.c_contiguous
    assert np.shares_memory(gating.slices_of(image), image)
    assert gating.slices_of(DeviceArray(image)).shape == (3, *gating.SLICE)
    with pytest.raises(gating.InvalidValueError, match=r"^tensor 'image' has a first dimension of 0, .* expected "):
        gating.slices_of(image[0])


@pytest.mark.parametrize("value", ["Auto", "", 0, True, None, ["auto"]])
def test_a_gate_of_another_kind_is_refused(value):
    with pytest.raises(gating.InvalidValueError, match=r"^gate is .*, expected one of auto, always, never$"):
        gating.Settings(0.5, 0.5).updated({contract.GATE: value})


def test_an_unknown_parameter_is_refused_by_name():
    with pytest.raises(gating.InvalidValueError, match="unknown parameter 'threshold', expected detection_threshold,"):
        gating.Settings(0.5, 0.5).updated({"threshold": 0.5})


def test_the_gate_knows_the_names_of_the_contract():
    assert rehearsal.OUTPUTS == ALL
    assert gating.GATE_MODES == contract.GATE_MODES
    assert contract.IMAGE.shape == gating.SLICE
    assert set(gating.Settings.__dataclass_fields__) == set(contract.PARAMETERS)


def test_the_shipped_operating_point_is_valid(shipped_repository):
    settings = gating.read_operating_point(newest_version(shipped_repository) / "operating_point.json")

    assert settings.gate == "auto"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("{", "Expecting property name"),
        ("[0.5, 0.5]", "expected a JSON object"),
        ({"detection_threshold": 0.5}, "mask_threshold missing"),
        ({}, "detection_threshold and mask_threshold missing"),
        ({"detection_threshold": 1.5, "mask_threshold": 0.5}, "detection_threshold is 1.5, expected"),
    ],
)
def test_a_bad_operating_point_names_its_file(tmp_path, document, reason):
    path = tmp_path / "operating_point.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))

    with pytest.raises(gating.InvalidValueError) as error:
        gating.read_operating_point(path)

    assert str(error.value).startswith(f"{path}: ")
    assert reason in str(error.value)


@pytest.mark.parametrize("lies_there", [False, True], ids=["from the host", "from the device"])
def test_on_a_device_the_batch_goes_there_once_and_only_probabilities_come_back(
    request_for, detect, segment, lies_there
):
    requests = [
        request_for(0.25, 0.75),
        request_for(0.0, mask_threshold=0.25, detection_threshold=0),
        request_for(1.0, 0.125, 0.625),
    ]
    tally, on_device = gating.Tally(), gating.Tally()
    expected = gating.run(requests, detect, segment, tally=tally)
    device = Device()

    def there(network):
        return lambda images: DeviceArray(network(images._values))

    if lies_there:
        requests = [replace(request, images=DeviceArray(request.images)) for request in requests]
    answers = gating.run(requests, there(detect), there(segment), device, on_device)

    images = [shape for shape in device.uploads if len(shape) == 4 and shape[3] == 3]
    assert images == ([] if lies_there else [(6, 256, 256, 3)])
    assert device.downloads == [(6, 1)]
    assert on_device == tally == gating.Tally(rows=6, opened=4, shut=2, suspicious=1)
    for answer, right in zip(answers, expected, strict=True):
        for name, values in right.items():
            found = answer[name]._values if isinstance(answer[name], DeviceArray) else answer[name]
            np.testing.assert_array_equal(found, values)
        assert {name for name, values in answer.items() if isinstance(values, DeviceArray)} == {
            MASK,
            MASK_PROBABILITY,
            CERTAINTY,
        }


def test_certainty_holds_a_strict_outline_against_a_lax_one_and_is_0_where_nothing_is_outlined(request_for, detect):
    def segment(images):
        probability = np.zeros(images.shape[:3], np.float32)
        probability[0, :2, :3] = [[0.9, 0.7, 0.69], [0.5, 0.1, 0.09]]
        probability[1, 0, 0] = 0.4
        return probability

    [answer] = gating.run([request_for(1.0, 0.75, 0.25, outputs=[CERTAINTY, MASK])], detect, segment)

    assert answer[CERTAINTY].dtype == np.float32
    np.testing.assert_allclose(answer[CERTAINTY], [[2 / 5], [0], [0]], rtol=1e-6)


def test_reliability_is_told_as_it_is_to_every_slice_and_wakes_no_network(request_for, detect, segment):
    worth = (0.8, 0.9, 1.1, 0.5, 2.0)

    [answer] = gating.run([request_for(0.75, 0.25, outputs=[RELIABILITY])], detect, segment, reliability=worth)

    np.testing.assert_allclose(answer[RELIABILITY], [worth, worth])
    assert detect.calls == segment.calls == []


@pytest.mark.parametrize(
    ("reliability", "reason"),
    [
        ({"limit": 0.8}, "reliability: expected limit, certain and uncertain"),
        ({"limit": 0.8, "certain": [0.9], "uncertain": [0.5, 2]}, "expected 5 numbers from 0"),
        ({"limit": -0.8, "certain": [0.9, 1.1], "uncertain": [0.5, 2]}, "expected 5 numbers from 0"),
        ({"limit": "high", "certain": [0.9, 1.1], "uncertain": [0.5, 2]}, "expected limit, certain and uncertain"),
        ([0.8], "expected limit, certain and uncertain"),
    ],
)
def test_a_reliability_that_makes_no_sense_is_refused_by_its_file(tmp_path, reliability, reason):
    path = tmp_path / "operating_point.json"
    path.write_text(json.dumps({"reliability": reliability}))

    with pytest.raises(gating.InvalidValueError, match=reason) as refused:
        gating.read_reliability(path)
    assert str(path) in str(refused.value)


def test_a_reliability_is_read_and_one_that_is_not_there_is_unknown(tmp_path):
    path = tmp_path / "operating_point.json"
    path.write_text(json.dumps({"reliability": {"limit": 0.8, "certain": [0.9, 1.1], "uncertain": [0.5, 2]}}))
    assert gating.read_reliability(path) == (0.8, 0.9, 1.1, 0.5, 2.0)
    path.write_text("{}")
    assert gating.read_reliability(path) == gating.UNKNOWN


def test_who_asks_for_the_thresholds_alone_wakes_no_network(request_for, detect, segment):
    default, own = gating.run(
        [request_for(0.75, 0.25, outputs=[THRESHOLDS]), request_for(0.75, outputs=[THRESHOLDS], mask_threshold=0.25)],
        detect,
        segment,
    )

    assert default[THRESHOLDS].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert own[THRESHOLDS].tolist() == [[0.5, 0.25]]
    assert detect.calls == segment.calls == []


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        ([1], [[0]]),
        ([1] * 10, [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]),
        ([3, 6, 2], [[0], [1, 2]]),
        ([32], [[0]]),
        ([1, 32, 1], [[0], [1], [2]]),
        ([8, 0, 0, 1], [[0, 1, 2], [3]]),
    ],
)
def test_a_large_batch_is_parted_between_requests(rows, groups):
    assert [list(group) for group in gating.grouped(rows, 8)] == groups
