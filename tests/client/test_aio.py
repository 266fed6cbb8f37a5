"""The asynchronous client where a server is in trouble, and where nobody waits for it any more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from inspect import signature

import numpy as np
import pytest
from support.troubled_triton import TroubledTriton

from gliogate import (
    Analysis,
    AsyncClient,
    Client,
    ClientClosedError,
    DeadlineExceededError,
    ForeignLoopError,
    ImageError,
    ModelNotReadyError,
    ServerUnavailableError,
)
from gliogate.contract import DETECTOR

SLICE = np.zeros((256, 256, 3), np.uint8)


def test_it_has_the_names_and_parameters_of_the_other_client():
    names = {name for name in vars(Client) if not name.startswith("_")}

    assert names == {name for name in vars(AsyncClient) if not name.startswith("_")}
    for name in names:
        mine, other = signature(getattr(AsyncClient, name)).parameters, signature(getattr(Client, name)).parameters
        assert [(p.name, p.kind, p.default) for p in mine.values()] == [
            (p.name, p.kind, p.default) for p in other.values()
        ]


def test_it_may_be_made_before_there_is_a_loop_and_is_of_the_first_one(triton: TroubledTriton):
    client = AsyncClient(triton.url)

    async def once() -> Analysis:
        return await client.analyze(SLICE)

    async def thrice() -> list[Analysis]:
        return [await once(), await client.with_options(timeout_s=5).analyze(SLICE), await once()]

    with asyncio.Runner() as loop:
        assert [analysis.verdict for analysis in loop.run(thrice())] == ["no tumor"] * 3
        with pytest.raises(ForeignLoopError, match=f"{triton.url} is another event loop's"), asyncio.Runner() as other:
            other.run(once())
        loop.run(client.close())


def test_one_that_asked_nothing_is_closed(triton: TroubledTriton):
    asyncio.run(AsyncClient(triton.url).close())


def test_pictures_come_from_an_asynchronous_generator_and_only_as_many_as_are_needed(triton: TroubledTriton):
    taken = 0

    async def endless() -> AsyncIterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield SLICE

    async def first_three() -> list[Analysis]:
        async with AsyncClient(triton.url) as client, aclosing(client.analyze_many(endless(), in_flight=4)) as results:
            return [await anext(results) for _ in range(3)]

    assert [analysis.verdict for analysis in asyncio.run(first_three())] == ["no tumor"] * 3
    assert taken <= 3 + 4


def test_one_failure_is_that_pictures_result_or_ends_it_as_asked(triton: TroubledTriton):
    pictures = [SLICE, "absent.png", SLICE]

    async def both() -> list[object]:
        async with AsyncClient(triton.url) as client:
            kept = [result async for result in client.analyze_many(pictures, on_error="return")]
            with pytest.raises(ImageError, match=r"absent\.png"):
                async for _ in client.analyze_many(pictures):
                    pass
            return kept

    assert [type(result) for result in asyncio.run(both())] == [Analysis, ImageError, Analysis]


def test_cancelling_a_task_cancels_its_request_on_the_server(triton: TroubledTriton):
    triton.holds = True

    async def ask_and_think_better_of_it() -> None:
        async with AsyncClient(triton.url) as client:
            task = asyncio.create_task(client.analyze(SLICE))
            while not triton.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(triton.cancelled.acquire, timeout=10)

    asyncio.run(ask_and_think_better_of_it())


def test_leaving_a_loop_cancels_what_is_under_way(triton: TroubledTriton):
    triton.holds = True

    async def leave() -> None:
        async with AsyncClient(triton.url) as client:
            async with aclosing(client.analyze_many([SLICE] * 3, in_flight=3)) as results:
                waiting = asyncio.create_task(anext(results))
                while len(triton.requests) < 3:
                    await asyncio.sleep(0.01)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            for _ in range(3):
                assert await asyncio.to_thread(triton.cancelled.acquire, timeout=10)

    asyncio.run(leave())


def test_a_deadline_is_told_and_reaches_the_server(triton: TroubledTriton):
    triton.holds = True

    async def wait_in_vain() -> None:
        async with AsyncClient(triton.url) as client:
            with pytest.raises(DeadlineExceededError, match=r"no answer from .* within 0\.5 s"):
                await client.analyze(SLICE, timeout_s=0.5)

    asyncio.run(wait_in_vain())
    assert triton.cancelled.acquire(timeout=10)


def test_a_closed_client_says_so_also_to_who_is_waiting(triton: TroubledTriton):
    triton.holds = True

    async def close_early() -> None:
        client = AsyncClient(triton.url)
        waiting = asyncio.create_task(client.analyze(SLICE))
        while not triton.requests:
            await asyncio.sleep(0.01)
        await client.close()
        await client.close()
        with pytest.raises(ClientClosedError, match="while this request was under way"):
            await waiting
        with pytest.raises(ClientClosedError, match="was closed: make a new one"):
            await client.analyze(SLICE)

    asyncio.run(close_early())


def test_nobody_there_and_a_model_that_is_not_ready_are_told_apart(triton: TroubledTriton):
    triton.failures, triton.not_ready = 1000, (DETECTOR.name,)

    async def ask(url: str) -> None:
        async with AsyncClient(url) as client:
            assert not await client.is_ready()
            await client.analyze(SLICE)

    with pytest.raises(ModelNotReadyError, match=f"{DETECTOR.name} not ready"):
        asyncio.run(ask(triton.url))
    with pytest.raises(ServerUnavailableError, match="no Triton answers gRPC at 127"):
        asyncio.run(ask("127.0.0.1:9"))
