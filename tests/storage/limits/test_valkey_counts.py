"""What only a server beside the database has: streams that are leased there, its death, its silence, its memory."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import pytest
from redis.asyncio import Redis

from app.errors import StorageError
from app.state.limit_windows import Claim, Correction
from app.storage.limits.valkey_counts import ValkeyCounts
from tests.fakes.counted import REQUESTS, STREAMS, TOKENS, granted
from tests.fakes.duty import on_duty
from tests.fakes.valkey import PATIENCE, ValkeyServer

Process: TypeAlias = Callable[..., ValkeyCounts]

ONE_STREAM = [Claim(STREAMS, 1)]


@pytest.fixture
async def process(valkey: ValkeyServer) -> AsyncIterator[Process]:
    """Makes a process that counts there, which ends with the test."""
    made: list[ValkeyCounts] = []

    def make(lease_seconds: float = 25.0, url: str = valkey.url, timeout: float = PATIENCE) -> ValkeyCounts:
        made.append(ValkeyCounts(url, lease_seconds, timeout))
        return made[-1]

    yield make
    for counts in made:
        await counts.aclose()


async def open_streams(counts: ValkeyCounts) -> int:
    return (await counts.read([STREAMS]))[0].used


async def test_the_streams_of_a_killed_process_end_by_themselves(process: Process) -> None:
    killed, alive = process(0.5), process(10.0)
    await killed.draw(ONE_STREAM, "killed")
    await alive.draw(ONE_STREAM, "alive")
    async with on_duty(alive.renew, alive.renew_seconds):
        async with asyncio.timeout(10):
            while await open_streams(alive) > 1:
                await asyncio.sleep(0.05)
        assert (await alive.draw(ONE_STREAM, "next")).refused is None
        assert (await alive.draw(ONE_STREAM, "third")).refused is not None


async def test_a_clock_that_was_set_back_grants_nothing_twice_and_locks_nobody_out(
    process: Process, valkey: ValkeyServer
) -> None:
    async def shift(milliseconds: int) -> None:
        async with Redis.from_url(valkey.url, protocol=2) as client:
            async for name in client.scan_iter(match="*_per_minute"):
                await client.hincrby(name, "began_at", milliseconds)

    counts = process()
    await counts.draw([Claim(REQUESTS, 10)], "")
    await shift(3_600_000)
    refused = (await counts.draw([Claim(REQUESTS, 1)], "")).refused
    assert refused is not None
    assert 59_000 < refused.rest_ms <= 60_000
    await shift(-60_000)
    assert (await counts.draw([Claim(REQUESTS, 1)], "")).refused is None


async def test_streams_are_counted_again_by_a_server_that_has_lost_them(process: Process, valkey: ValkeyServer) -> None:
    counts = process()
    await counts.draw(ONE_STREAM, "one")
    valkey.kill()
    with pytest.raises(StorageError):
        await counts.renew()
    valkey.start()
    assert await open_streams(counts) == 0
    await counts.renew()
    assert await open_streams(counts) == 1


async def test_a_stream_that_ends_while_it_is_renewed_is_over(process: Process) -> None:
    counts = process()
    for number in range(20):
        verdict = await counts.draw(ONE_STREAM, f"{number}")
        assert verdict.refused is None
        await asyncio.gather(counts.reconcile([Correction(STREAMS, -1, 0)], f"{number}"), counts.renew())
        assert await open_streams(counts) == 0


async def test_nothing_stays_in_the_server(process: Process, valkey: ValkeyServer) -> None:
    counts = process()
    await counts.draw([Claim(REQUESTS, 1), Claim(TOKENS, 5), *ONE_STREAM], "one")
    await counts.reconcile([Correction(TOKENS, 3, int(time.time() * 1000))], "")
    await counts.renew()
    async with Redis.from_url(valkey.url, protocol=2) as client:
        names = [name async for name in client.scan_iter()]
        assert len(names) == 3
        for name in names:
            assert name.startswith(b"antiphon:limits:key_1:")
            assert 0 < await client.pttl(name) <= 60_000


async def test_a_dead_server_grants_nothing_until_it_is_back(process: Process, valkey: ValkeyServer) -> None:
    counts = process()
    assert granted(await asyncio.gather(*(counts.draw([Claim(REQUESTS, 1)], "") for _ in range(40)))) == 10
    valkey.kill()
    for _ in range(2):
        with pytest.raises(StorageError, match="Limits cannot be counted now") as raised:
            await counts.draw([Claim(REQUESTS, 1)], "")
        assert valkey.url not in raised.value.message
    valkey.start()
    # No call of those that were idle meanwhile is lost on a connection of before.
    assert granted(await asyncio.gather(*(counts.draw([Claim(REQUESTS, 1)], "") for _ in range(40)))) == 10


@pytest.mark.slow
async def test_a_silent_server_holds_nobody_up_and_mixes_nothing_up(process: Process, valkey: ValkeyServer) -> None:
    counts = process(timeout=4.0)
    await asyncio.gather(*(counts.draw([Claim(REQUESTS, 1)], "") for _ in range(40)))
    valkey.hang()
    began = time.monotonic()
    waiting = [counts.draw([Claim(TOKENS, 1)], "") for _ in range(100)]
    outcomes = await asyncio.gather(
        *waiting, counts.reconcile([Correction(STREAMS, -1, 0)], "one"), return_exceptions=True
    )
    assert all(isinstance(outcome, StorageError) for outcome in outcomes)
    assert time.monotonic() - began < 30
    valkey.go_on()
    # Some of what nobody waited for was done; answers to it are not those of what is asked now.
    assert [standing.used for standing in await counts.read([REQUESTS])] == [10]
    [verdict] = (await counts.draw([Claim(TOKENS, 1)], "")).standings
    assert verdict.limit == TOKENS
    assert 1 <= verdict.used <= 101


async def test_one_that_gives_up_does_not_get_in_the_way_of_others(process: Process) -> None:
    counts = process(timeout=20.0)
    tasks = [asyncio.create_task(counts.draw([Claim(TOKENS, 1)], "")) for _ in range(60)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    verdicts = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(verdicts) == 40
    assert granted(verdicts) == 40
    assert 40 <= (await counts.read([TOKENS]))[0].used <= 60


async def test_a_password_is_told_to_the_server_and_to_nobody_else() -> None:
    server = ValkeyServer("pa55word").start()
    right, wrong = (
        ValkeyCounts(url, timeout=PATIENCE) for url in (server.url, server.url.replace("pa55", "another-pa55"))
    )
    try:
        assert (await right.draw([Claim(REQUESTS, 1)], "")).refused is None
        with pytest.raises(StorageError) as raised:
            await wrong.draw([Claim(REQUESTS, 1)], "")
        for shown in (raised.value, raised.value.__cause__, right, right._client):
            assert "pa55word" not in f"{shown!r} {shown}"
    finally:
        await right.aclose()
        await wrong.aclose()
        server.close()
