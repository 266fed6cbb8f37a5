"""The clients for users' own tests behave as the real ones, down to their signatures."""

import asyncio
from inspect import signature

import numpy as np
import pytest

from gliogate import (
    AsyncClient,
    Client,
    ClientClosedError,
    ImageError,
    InvalidRequestError,
    RequestError,
    Retries,
    ServerUnavailableError,
)
from gliogate.phantom import make_phantoms
from gliogate.testing import FakeAsyncClient, FakeClient

PICTURES = [phantom.image for phantom in make_phantoms(12, seed=5)]
GONE = ServerUnavailableError("gone", url="fake:8001", status="UNAVAILABLE")


@pytest.mark.parametrize(("fake", "real"), [(FakeClient, Client), (FakeAsyncClient, AsyncClient)])
def test_they_are_clients_with_the_same_signatures(fake, real):
    assert issubclass(fake, real)
    for name in vars(real):
        if not name.startswith("_") and callable(getattr(real, name)):
            assert signature(getattr(fake, name)) == signature(getattr(real, name))


def test_some_pictures_show_tumor_and_the_same_one_always_the_same():
    with FakeClient() as client:
        assert client.is_ready()
        first = list(client.analyze_many(PICTURES))
        again = list(client.analyze_many(PICTURES))

    assert {analysis.verdict for analysis in first} == {"tumor", "no tumor"}
    for one, other in zip(first, again, strict=True):
        assert one.segmented == one.mask.any()
        np.testing.assert_array_equal(one.mask, other.mask)


def test_options_mean_what_they_do_on_a_server():
    with FakeClient(prevalence=0) as client:
        clear = client.analyze(PICTURES[0], gate="always", return_mask_probability=True)
        assert (clear.verdict, clear.segmented, clear.area_px) == ("undecided", True, 0)
        assert client.detect(PICTURES[0], detection_threshold=0).detected
        assert client.analyze(PICTURES[0], gate="always", mask_threshold=0).area_px == 256 * 256
    with FakeClient(prevalence=1) as client:
        assert client.analyze(PICTURES[0], gate="never").area_px == 0
        assert client.analyze(np.zeros((512, 300), np.uint8)).mask.shape == (512, 300)
        with pytest.raises(ImageError, match=r"absent\.png"):
            client.analyze("absent.png")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"detection_threshold": 7}, "detection_threshold is 7.0, expected a number from 0 to 1"),
        ({"mask_threshold": float("nan")}, "mask_threshold is nan, expected a number from 0 to 1"),
        ({"gate": "sometimes"}, "gate is 'sometimes', expected one of auto, always, never"),
    ],
)
def test_options_that_a_server_refuses_are_refused(options, told):
    with FakeClient() as client, pytest.raises(InvalidRequestError, match=told) as caught:
        client.analyze(PICTURES[0], request_id="study-7", **options)

    assert (caught.value.status, caught.value.request_id) == ("INVALID_ARGUMENT", "study-7")


def test_they_take_what_a_connection_does_and_refuse_what_it_refuses():
    async def make() -> str:
        async with FakeAsyncClient(retries=Retries(attempts=1)) as client:
            return client.url

    assert asyncio.run(make()) == "fake:8001"
    with FakeClient(["10.0.0.1:1", "10.0.0.2:1"], retries=Retries(attempts=1)) as client:
        assert client.url == "10.0.0.1:1,10.0.0.2:1"
    for fake in (FakeClient, FakeAsyncClient):
        with pytest.raises(ValueError, match="compression is 'brotli'"):
            fake(compression="brotli")


def test_failures_come_where_they_were_asked_for():
    with FakeClient(failures=[None, GONE]) as client:
        results = list(client.analyze_many(PICTURES[:3], on_error="return"))
        assert results[1] is GONE
        assert client.analyze(PICTURES[1]).picture is not None
        client.close()
        with pytest.raises(ClientClosedError):
            client.analyze(PICTURES[0])


def test_the_asynchronous_one_answers_the_same():
    async def ask() -> list[object]:
        async with FakeAsyncClient(failures=[GONE]) as client:
            await client.wait_until_ready()
            with pytest.raises(ServerUnavailableError):
                await client.detect(PICTURES[0])
            return [analysis.tumor_probability async for analysis in client.analyze_many(PICTURES)]

    with FakeClient() as client:
        expected = [analysis.tumor_probability for analysis in client.analyze_many(PICTURES)]
    assert asyncio.run(ask()) == expected


HEAD = np.stack(PICTURES)


def test_a_head_is_analyzed_without_a_server_too():
    """In one part, in two of them, and by the asynchronous one."""
    asked = []
    with FakeClient() as client:
        found = client.analyze_volume(HEAD, progress=lambda *done: asked.append(done))
        alone = list(client.analyze_many(HEAD))
        some = dict(client.analyze_slices(found.volume, slices=[2, 7]))
        long = client.analyze_volume(np.repeat(HEAD, 5, axis=0))

    async def ask():
        async with FakeAsyncClient() as other:
            some = {index: each async for index, each in other.analyze_slices(found.volume, slices=[2, 7])}
            return await other.analyze_volume(HEAD), some

    awaited, awaited_some = asyncio.run(ask())
    np.testing.assert_array_equal(found.mask, [analysis.mask for analysis in alone])
    np.testing.assert_array_equal(found.mask, awaited.mask)
    np.testing.assert_array_equal(np.repeat(found.mask, 5, axis=0), long.mask)
    assert all(analysis.among_neighbours for analysis in (*found.analyses, *awaited.analyses, *long.analyses))
    assert asked == [(done, len(HEAD)) for done in range(1, len(HEAD) + 1)]
    assert set(some) == set(awaited_some) == {2, 7}
    np.testing.assert_array_equal(some[7].mask, found.mask[7])
    assert found.certainty == pytest.approx(0.97)
    assert found.needs_look is False
    assert found.reliability.limit == 0.8


def test_failures_of_a_head_come_as_with_a_server():
    absent = RequestError("no such model", url="fake:8001", status="NOT_FOUND")
    with FakeClient(failures=[GONE]) as client:
        with pytest.raises(ServerUnavailableError):
            client.analyze_volume(HEAD)
        assert client.analyze_volume(HEAD).mask.any()
    with FakeClient(failures=[absent]) as client:
        alone = client.analyze_volume(HEAD)
    assert not any(analysis.among_neighbours for analysis in alone.analyses)
