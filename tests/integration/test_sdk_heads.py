"""Heads whose slices are judged among their neighbours, on a real Triton, and servers that cannot do so.

The tiny repository's detector answers with the share of a slice that is white; a neighbour at 5 mm counts half.
"""

import asyncio
import json
import re
import shutil
from contextlib import aclosing, closing
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from support.tiny_networks import OPERATING_POINTS, poisoned, slices
from support.waiting import settled
from tritonclient.grpc import InferenceServerClient

from gliogate import AsyncClient, Client, GliogateError, InvalidRequestError, Reliability, RequestError
from gliogate.cli import main
from gliogate.contract import DETECTOR, ENSEMBLE, NEEDED, VOLUME
from gliogate.embedded import EmbeddedServer
from gliogate.parts import Part
from gliogate.volumes import read_volume
from gliogate.volumes.analysis import ONE_BY_ONE
from gliogate.wire import PartRequest

WORTH = {"limit": 0.9, "certain": [0.9, 1.1], "uncertain": [0.5, 2.0]}

ASKED = {"return_mask_probability": True}

THIN = (1.0, 1.0, 3.0)


def volume_of(pictures, spacing_mm=THIN):
    return replace(read_volume(pictures), spacing_mm=spacing_mm)


def make_head(count=60, spacing_mm=THIN):
    """A head whose slices show what they show by chance."""
    return volume_of(slices(*np.random.default_rng(3).integers(0, 257, count) / 256), spacing_mm)


@pytest.fixture(scope="module")
def head():
    return make_head()


@pytest.fixture(scope="module")
def client(tiny_server):
    with Client(tiny_server.url) as client:
        yield client


@pytest.fixture(scope="module")
def whole(client, head):
    """What one request of all slices says."""
    return client._receive(client._send(PartRequest(head.slices, Part(0, 60, 0, 0), spacing_mm=3.0, **ASKED)))


def check_equal(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        for name in ("tumor_probability", "detected", "segmented", "certainty", "reliability", "among_neighbours"):
            assert getattr(one, name) == getattr(other, name)
        for name in ("mask", "mask_probability", "picture"):
            mine, theirs = getattr(one, name), getattr(other, name)
            assert (mine is None) is (theirs is None)
            assert mine is None or mine.tobytes() == theirs.tobytes()


def asking(url, ask):
    """Runs a function of an asynchronous client."""

    async def run():
        async with AsyncClient(url) as other:
            return await ask(other)

    return asyncio.run(run())


def inferences(server):
    """How many requests of each gate succeeded and failed, once they stand still."""
    with closing(InferenceServerClient(server.triton_url)) as triton:

        def read():
            counts = {}
            for name in (ENSEMBLE.name, VOLUME.name):
                if triton.is_model_ready(name):
                    [stats] = triton.get_inference_statistics(name).model_stats
                    counts[name] = stats.inference_stats.success.count, stats.inference_stats.fail.count
            return counts

        return settled(read)


def test_a_head_in_several_parts_is_the_head_in_one(client, tiny_server, head, whole):
    told = []

    found = client.analyze_volume(head, progress=lambda *done: told.append(done), **ASKED)
    awaited = asking(
        tiny_server.url, lambda other: other.analyze_volume(head, progress=lambda *done: told.append(done), **ASKED)
    )

    assert len(client._parts(head, range(60))) > 1
    check_equal(found.analyses, whole)
    check_equal(awaited.analyses, whole)
    assert told == [(done, 60) for done in range(1, 61)] * 2
    assert all(analysis.among_neighbours for analysis in whole)
    assert found.notes == head.notes


def test_a_head_is_asked_about_in_a_few_requests(client, tiny_server, head):
    before = inferences(tiny_server)
    client.analyze_volume(head)
    after = inferences(tiny_server)

    parts = len(client._parts(head, range(60)))
    assert after[VOLUME.name][0] - before[VOLUME.name][0] == parts
    assert after[ENSEMBLE.name] == before[ENSEMBLE.name]


def test_neighbours_and_how_far_they_are_count(client):
    near, far, unknown = (
        client.analyze_volume(make_head(12, spacing_mm)) for spacing_mm in (THIN, (1.0, 1.0, 20.0), None)
    )
    assumed = client.analyze_volume(make_head(12, (1.0, 1.0, 5.0)))
    nonsense = client.analyze_volume(make_head(12, (1.0, 1.0, 5000.0)))
    alone = list(client.analyze_many(near.volume.slices))

    assert not np.allclose(near.probabilities, assumed.probabilities)
    assert np.array_equal(unknown.probabilities, assumed.probabilities)
    # No neighbour is within 10 mm.
    expected = [analysis.tumor_probability for analysis in alone]
    assert far.probabilities == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(nonsense.probabilities, far.probabilities)


def test_some_slices_of_a_head_are_judged_as_all_of_it(client, tiny_server, head, whole):
    wanted = [0, 7, 8, 9, 31, 59]
    before = inferences(tiny_server)

    found = dict(client.analyze_slices(head, slices=[59, 8, 7, 9, 0, 31, 8], **ASKED))

    async def ask(other):
        return {index: each async for index, each in other.analyze_slices(head, slices=iter(wanted), **ASKED)}

    awaited = asking(tiny_server.url, ask)
    assert sorted(found) == sorted(awaited) == wanted
    check_equal([found[index] for index in wanted], [whole[index] for index in wanted])
    check_equal([awaited[index] for index in wanted], [whole[index] for index in wanted])
    assert inferences(tiny_server)[VOLUME.name][0] - before[VOLUME.name][0] == 2 * 4
    assert list(client.analyze_slices(head, slices=[])) == []
    with pytest.raises(ValueError, match="slice 60: the head has the slices 0 to 59"):
        client.analyze_slices(head, slices=[60])
    with pytest.raises(ValueError, match="slice -1: the head has"):
        asking(tiny_server.url, lambda other: other.analyze_slices(head, slices=[-1]))


def test_a_small_message_takes_smaller_parts(tiny_server, head, whole):
    """Of 3 mm, four neighbours at either end weigh something; there is room for all of them."""
    with Client(tiny_server.url, max_message_bytes=8 * 2**20) as client:
        found = client.analyze_volume(head, **ASKED)
        assert len(client._parts(head, range(60))) > 2
    check_equal(found.analyses, whole)


def test_options_reach_the_gate_of_heads(client, head):
    always = client.analyze_volume(head, gate="always", mask_threshold=0.5)
    never = client.with_options(gate="never").analyze_volume(head)
    strict = client.analyze_volume(head, detection_threshold=0.6, return_mask_probability=True)
    usual = client.analyze_volume(head)

    assert all(analysis.segmented for analysis in always.analyses)
    assert (always.verdict, never.verdict) == ("undecided", "undecided")
    assert not any(analysis.segmented for analysis in never.analyses)
    assert [each.detected for each in strict.analyses] == [p >= np.float32(0.6) for p in usual.probabilities]
    assert [each.segmented for each in usual.analyses] == [p >= 0.5 for p in usual.probabilities]
    shown = next(each for each in usual.analyses if each.segmented)
    assert shown.mask_probability is None
    assert shown.certainty == 1
    looked_at = next(each for each in strict.analyses if each.segmented)
    np.testing.assert_array_equal(looked_at.mask_probability >= 0.5, looked_at.mask)
    with pytest.raises(InvalidRequestError, match="mask_threshold is 2"):
        client.analyze_volume(head, mask_threshold=2)


def test_what_fails_a_part_fails_each_of_its_slices_and_no_others(client, tiny_server, head):
    """The detector fails on a slice of the last part, which is in no other's context."""
    sick = volume_of(np.concatenate([head.slices[:59], poisoned(head.slices[59:], DETECTOR)]))
    failing = range(client._parts(sick, range(60))[-1].start, 60)

    found = dict(client.analyze_slices(sick, on_error="return"))

    async def ask(other):
        return {index: each async for index, each in other.analyze_slices(sick, on_error="return")}

    for outcomes in (found, asking(tiny_server.url, ask)):
        assert sorted(outcomes) == list(range(60))
        assert [index for index in range(60) if isinstance(outcomes[index], GliogateError)] == list(failing)
        assert len({str(outcomes[index]) for index in failing}) == 1
    with pytest.raises(RequestError):
        client.analyze_volume(sick)
    with pytest.raises(RequestError):
        asking(tiny_server.url, lambda other: other.analyze_volume(sick))
    with pytest.raises(ValueError, match="on_error is 'skip'"):
        client.analyze_slices(sick, on_error="skip")


def test_a_loop_that_is_left_early_leaves_nothing_under_way(client, tiny_server):
    """A long head: what was under way is cancelled, and what was not yet sent is never sent."""
    long = make_head(240)
    parts = len(client._parts(long, range(240)))
    before = inferences(tiny_server)[VOLUME.name]

    with closing(client.analyze_slices(long)) as analyses:
        next(analyses)

    async def ask(other):
        async with aclosing(other.analyze_slices(long)) as found:
            await anext(found)

    asking(tiny_server.url, ask)
    after = inferences(tiny_server)[VOLUME.name]
    # The first two parts were under way, and perhaps the third, which was sent in the place of the first.
    assert 2 <= sum(after) - sum(before) <= 2 * 3 < 2 * parts
    assert client.analyze_volume(make_head(12)).mask.any()


def test_an_error_of_whoever_is_told_the_progress_ends_the_analysis(client, tiny_server):
    def stop(done, total):
        raise KeyboardInterrupt(f"{done} of {total}")

    before = inferences(tiny_server)[VOLUME.name]
    with pytest.raises(KeyboardInterrupt, match="1 of 240"):
        client.analyze_volume(make_head(240), progress=stop)
    assert sum(inferences(tiny_server)[VOLUME.name]) - sum(before) <= 3


@pytest.fixture(scope="module")
def plain_server(tiny_repository, tmp_path_factory):
    """A server as before there was a gate of heads."""
    repository = tmp_path_factory.mktemp("plain") / "model_repository"
    shutil.copytree(tiny_repository, repository, ignore=shutil.ignore_patterns(VOLUME.name))
    with EmbeddedServer(repository) as server:
        yield server


def test_without_the_gate_of_heads_slices_are_judged_one_by_one(plain_server, head):
    told = []
    with Client(plain_server.url) as client:
        assert client.is_ready()
        assert [model.name for model in client.server_info().models] == [model.name for model in NEEDED]
        alone = list(client.analyze_many(head.slices, **ASKED))
        found = client.analyze_volume(head, progress=lambda *done: told.append(done), **ASKED)
        some = dict(client.analyze_slices(head, slices=[5, 40], **ASKED))
    awaited = asking(plain_server.url, lambda other: other.analyze_volume(head, **ASKED))

    check_equal(found.analyses, alone)
    check_equal(awaited.analyses, alone)
    check_equal([some[5], some[40]], [alone[5], alone[40]])
    assert found.notes == awaited.notes == (*head.notes, ONE_BY_ONE)
    assert told == [(done, 60) for done in range(1, 61)]


def test_where_it_is_not_said_what_a_server_has_the_model_itself_is_asked(plain_server, head, monkeypatch):
    async def serves(client, model):  # noqa: ARG001
        return True

    monkeypatch.setattr(Client, "_serves", lambda client, model: True)  # noqa: ARG005
    monkeypatch.setattr(AsyncClient, "_serves", serves)
    with Client(plain_server.url) as client:
        found = client.analyze_volume(head)
    awaited = asking(plain_server.url, lambda other: other.analyze_volume(head))

    check_equal(found.analyses, awaited.analyses)
    assert found.notes == awaited.notes == (*head.notes, ONE_BY_ONE)


def test_the_command_tells_that_neighbours_were_left_out_of_account(plain_server, tmp_path, capsys):
    np.save(tmp_path / "head.npy", slices(0.25, 0.75))

    assert main(["analyze", str(tmp_path / "head.npy"), "--url", plain_server.url]) == 0

    assert "note: slices were judged one by one, not among their neighbours" in capsys.readouterr().out


@pytest.fixture(scope="module")
def older_server(tiny_repository, tmp_path_factory):
    """A server of a version before 11: no gate of heads, and a gate that does not tell how certain it is."""
    repository = tmp_path_factory.mktemp("older") / "model_repository"
    shutil.copytree(tiny_repository, repository, ignore=shutil.ignore_patterns(VOLUME.name))
    config = repository / ENSEMBLE.name / "config.pbtxt"
    text, found = re.subn(r',\n *{ name: "(certainty|reliability)"[^}]*}', "", config.read_text())
    assert found == 2
    config.write_text(text)
    with EmbeddedServer(repository) as server:
        yield server


def test_an_older_server_is_asked_for_what_it_has(older_server):
    pictures = slices(0.25, 0.75, 0.5)

    with Client(older_server.url) as client:
        first = client.analyze(pictures[1])
        before = inferences(older_server)[ENSEMBLE.name]
        found = list(client.analyze_many(pictures))
        again = client.with_options(timeout_s=5).analyze(pictures[1])
        after = inferences(older_server)[ENSEMBLE.name]

    # Once it was refused, it is not asked so again.
    assert (after[0] - before[0], after[1] - before[1]) == (4, 0)
    assert [analysis.verdict for analysis in found] == ["no tumor", "tumor", "tumor"]
    for analysis in (first, again, *found):
        assert analysis.certainty is analysis.reliability is analysis.needs_look is None
    assert first.area_px == again.area_px == 192 * 256


def test_an_older_server_refuses_what_it_always_did(older_server):
    picture = slices(0.75)[0]

    with Client(older_server.url) as client:
        with pytest.raises(InvalidRequestError, match="mask_threshold is 2"):
            client.analyze(picture, mask_threshold=2)
        assert client.analyze(picture).tumor


def test_an_older_server_analyzes_heads_and_answers_the_asynchronous_client(older_server, head):
    with Client(older_server.url) as client:
        found = client.analyze_volume(head)
        # Several requests are refused at a time.
        many = [analysis.tumor for analysis in Client(older_server.url).analyze_many(head.slices, in_flight=8)]
    awaited = asking(older_server.url, lambda other: other.analyze_volume(head))

    check_equal(found.analyses, awaited.analyses)
    assert many == [analysis.tumor for analysis in found.analyses]
    assert found.certainty is found.needs_look is found.tumor_volume_interval_ml is None
    assert found.tumor_volume_ml > 0
    assert ONE_BY_ONE in found.notes


@pytest.fixture(scope="module")
def measured_server(tiny_repository, tmp_path_factory):
    """A server that knows what its masks are worth."""
    repository = tmp_path_factory.mktemp("measured") / "model_repository"
    shutil.copytree(tiny_repository, repository)
    for model, point in OPERATING_POINTS.items():
        for path in (repository / model.name).glob("*/operating_point.json"):
            path.write_text(json.dumps(point | {"reliability": WORTH}))
    with EmbeddedServer(repository) as server:
        yield server


def grey(*levels):
    """Slices of one grey: the detector's probability and that of every pixel."""
    return slices(*[1.0] * len(levels)) // 255 * np.array(levels, np.uint8)[:, None, None, None]


def test_how_certain_a_mask_is_and_what_it_is_worth_come_from_the_server(measured_server):
    """Grey slices: every pixel is as probable as the slice, and so inside the strict outline or not."""
    sure, doubtful = grey(250, 250, 250), grey(153, 153, 153)

    with Client(measured_server.url) as client:
        of_sure, of_doubtful = (client.analyze_volume(volume_of(each)) for each in (sure, doubtful))
        alone = client.analyze(doubtful[0])
        clear = client.analyze(grey(10)[0])

    worth = Reliability(0.9, (0.9, 1.1), (0.5, 2.0))
    assert of_sure.reliability == of_doubtful.reliability == alone.reliability == clear.reliability == worth
    assert of_sure.certainty == pytest.approx(1)
    assert of_doubtful.certainty == alone.certainty == 0
    assert clear.certainty is None
    assert (of_sure.needs_look, of_doubtful.needs_look, alone.needs_look, clear.needs_look) == (
        False,
        True,
        True,
        False,
    )
    volume = of_doubtful.tumor_volume_ml
    assert volume == pytest.approx(3 * 256 * 256 * 3 / 1000)
    assert of_sure.tumor_volume_interval_ml == pytest.approx((0.9 * volume, 1.1 * volume))
    assert of_doubtful.tumor_volume_interval_ml == pytest.approx((0.5 * volume, 2 * volume))


def test_the_command_tells_certainty_interval_and_what_to_look_at(measured_server, tmp_path, capsys):
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    for name, level in (("sure", 250), ("doubtful", 153)):
        # As 8 bits, a source is taken as it is.
        image = nibabel.Nifti1Image(grey(level, level)[..., 1].transpose(2, 1, 0), affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, tmp_path / f"{name}.nii")
    np.save(tmp_path / "slice.npy", grey(153)[0])
    lines = tmp_path / "lines.json"
    paths = [str(tmp_path / name) for name in ("slice.npy", "sure.nii", "doubtful.nii")]

    assert main(["analyze", *paths, "--url", measured_server.url, "--json", str(lines)]) == 0

    told = capsys.readouterr().out
    assert re.search(r"^ *slice +0\.600 +tumor +yes +65,536 +look 0\.00 ", told, re.MULTILINE)
    assert re.search(r"^ *sure +0\.980 +tumor +393\.2 \(353\.9-432\.5\) +1\.00 ", told, re.MULTILINE)
    assert re.search(r"^ *doubtful +0\.600 +tumor +393\.2 \(196\.6-786\.4\) +look 0\.00 ", told, re.MULTILINE)
    assert "1 scans, 1 with tumor, 1 to look at, median latency" in told
    assert "2 volumes, 2 with tumor, 1 to look at\n" in told
    picture, sure, doubtful = map(json.loads, lines.read_text().splitlines())
    assert picture["certainty"] == 0
    assert (picture["needs_look"], sure["needs_look"], doubtful["needs_look"]) == (True, False, True)
    assert doubtful["tumor_volume_interval_ml"] == pytest.approx([196.608, 786.432])
    assert doubtful["slices"][0]["needs_look"] is True
