"""What is used of limits, on both databases: exact at once and over processes, corrected, leased, purged."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select, update

from app.errors import StorageError
from app.state.limits import Claim, Correction, Limit, Verdict
from app.storage.database import Database
from app.storage.limit_store import LimitStore
from app.storage.limit_tables import limit_counts, limit_streams
from app.storage.local_limits import LocalLimits
from app.storage.writer import Writer
from tests.conftest import COMMIT_TIMEOUT

REQUESTS = Limit("key_1", "API key", "requests", "minute", 10)
SHARED = Limit("proj_a", "project", "requests", "minute", 15)
STREAMS = Limit("key_1", "API key", "streams", None, 2)
TOKENS = Limit("key_1", "API key", "tokens", "minute", 1000)
BUDGET = Limit("key_1", "API key", "usd", "month", 1000)


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[LimitStore]:
    """The store of another process: on PostgreSQL a replica, on SQLite the one after a restart."""
    database = Database(database_url, pool_size=2, commit_timeout=COMMIT_TIMEOUT)
    writer = Writer(database, COMMIT_TIMEOUT)
    yield LimitStore(database, writer)
    await writer.aclose()
    await database.aclose()


def granted(verdicts: list[Verdict]) -> int:
    return sum(verdict.refused is None for verdict in verdicts)


async def test_two_hundred_calls_at_once_on_a_limit_of_ten_are_ten(limits: LimitStore, other: LimitStore) -> None:
    draws = [store.draw([Claim(REQUESTS, 1)], "") for _ in range(100) for store in (limits, other)]
    assert granted(await asyncio.gather(*draws)) == 10
    assert [standing.used for standing in await limits.read([REQUESTS])] == [10]


async def test_a_projects_limit_holds_for_its_keys_together(limits: LimitStore, other: LimitStore) -> None:
    second = Limit("key_2", "API key", "requests", "minute", 10)
    draws = [
        store.draw([Claim(own, 1), Claim(SHARED, 1)], "")
        for _ in range(20)
        for store, own in ((limits, REQUESTS), (other, second), (limits, second), (other, REQUESTS))
    ]
    assert granted(await asyncio.gather(*draws)) == 15
    used = [standing.used for standing in await limits.read([REQUESTS, second, SHARED])]
    assert used[0] + used[1] == used[2] == 15


async def test_processes_that_need_each_others_counts_do_not_wait_for_each_other(
    limits: LimitStore, other: LimitStore
) -> None:
    async def work(store: LimitStore, number: int) -> None:
        for step in range(20):
            owners = [(7 * number + 11 * step + 13 * place) % 30 for place in range(3)]
            drawn = [Limit(f"key_{owner}", "API key", "tokens", "minute", 10_000) for owner in owners]
            verdict = await store.draw([Claim(limit, 1) for limit in drawn], "")
            began = [standing.began_at for standing in verdict.standings]
            await store.settle([Correction(*one) for one in zip(drawn, (1, 1, 1), began, strict=True)], "")
            await store.purge_expired(grace_seconds=0)

    async with asyncio.timeout(30):
        await asyncio.gather(*(work(store, number) for store in (limits, other) for number in range(10)))
    every = [Limit(f"key_{owner}", "API key", "tokens", "minute", 10_000) for owner in range(30)]
    assert sum(standing.used for standing in await limits.read(every)) == 2 * 3 * 20 * 20


async def test_a_window_that_is_over_is_followed_by_a_new_one(limits: LimitStore, writer: Writer) -> None:
    await asyncio.gather(*(limits.draw([Claim(REQUESTS, 1)], "") for _ in range(10)))
    refused = (await limits.draw([Claim(REQUESTS, 1)], "")).refused
    assert refused is not None
    assert 0 < refused.rest_ms <= 60_000
    await shift(limits, -60_000)
    verdict = await limits.draw([Claim(REQUESTS, 1)], "")
    assert verdict.refused is None
    assert verdict.standings[0].used == 1


async def test_what_a_call_used_replaces_what_was_taken_for_it(limits: LimitStore, other: LimitStore) -> None:
    verdict = await limits.draw([Claim(TOKENS, 600), Claim(BUDGET, 500)], "")
    at = [standing.began_at for standing in verdict.standings]
    assert (await limits.draw([Claim(TOKENS, 600)], "")).refused is not None
    await other.settle([Correction(TOKENS, -500, at[0]), Correction(BUDGET, 700, at[1])], "")
    assert [standing.used for standing in await limits.read([TOKENS, BUDGET])] == [100, 1200]
    assert (await limits.draw([Claim(BUDGET, 0)], "")).refused is not None


async def test_a_correction_of_a_window_that_is_over_is_dropped(limits: LimitStore) -> None:
    began_at = (await limits.draw([Claim(TOKENS, 600)], "")).standings[0].began_at
    await shift(limits, -60_000)
    await limits.draw([Claim(TOKENS, 10)], "")
    await limits.settle([Correction(TOKENS, 900, began_at - 60_000)], "")
    assert [standing.used for standing in await limits.read([TOKENS])] == [10]


async def test_streams_are_counted_until_they_are_settled(limits: LimitStore, other: LimitStore) -> None:
    claims = [Claim(STREAMS, 1)]
    verdicts = await asyncio.gather(*(store.draw(claims, f"{n}") for n, store in enumerate([limits, other] * 5)))
    assert granted(list(verdicts)) == 2
    held = next(n for n, verdict in enumerate(verdicts) if verdict.refused is None)
    assert [standing.used for standing in await limits.read([STREAMS])] == [2]
    await limits.settle([Correction(STREAMS, -1, 0)], f"{held}")
    assert [standing.used for standing in await limits.read([STREAMS])] == [1]
    assert (await other.draw(claims, "next")).refused is None


async def test_a_refused_call_holds_no_stream(limits: LimitStore) -> None:
    full = Limit("proj_a", "project", "requests", "minute", 0)
    assert (await limits.draw([Claim(STREAMS, 1), Claim(full, 1)], "one")).refused is not None
    assert [standing.used for standing in await limits.read([STREAMS])] == [0]
    assert not limits._held


async def test_the_streams_of_a_killed_process_end_by_themselves(database: Database, writer: Writer) -> None:
    killed, alive = LimitStore(database, writer, lease_seconds=0.3), LimitStore(database, writer, lease_seconds=0.3)
    await killed.draw([Claim(STREAMS, 1)], "killed")
    await alive.draw([Claim(STREAMS, 1)], "alive")
    renewing = asyncio.create_task(alive.renew_forever())
    try:
        async with asyncio.timeout(10):
            while (await alive.read([STREAMS]))[0].used > 1:
                await asyncio.sleep(0.05)
        assert (await killed.draw([Claim(STREAMS, 1)], "next")).refused is None
        assert (await killed.draw([Claim(STREAMS, 1)], "third")).refused is not None
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def test_what_is_over_is_purged_and_the_rest_is_kept(limits: LimitStore, database: Database) -> None:
    await limits.draw([Claim(REQUESTS, 1), Claim(BUDGET, 5), Claim(STREAMS, 1)], "one")
    await shift(limits, -60_000, name="requests_per_minute")
    assert await limits.purge_expired(grace_seconds=0) == 2
    assert [standing.used for standing in await limits.read([REQUESTS, BUDGET, STREAMS])] == [0, 5, 1]
    assert await limits.purge_expired(grace_seconds=-60) == 1
    count = select(func.count()).select_from(limit_streams)
    assert await database.read(lambda connection: connection.scalar(count)) == 0


async def test_a_database_that_is_away_grants_nothing(limits: LimitStore, writer: Writer) -> None:
    await writer.aclose()
    with pytest.raises(StorageError):
        await limits.draw([Claim(REQUESTS, 1)], "")


async def test_a_process_alone_keeps_its_budgets_over_a_restart(limits: LimitStore, other: LimitStore) -> None:
    claims = [Claim(REQUESTS, 1), Claim(BUDGET, 600), Claim(STREAMS, 1)]
    first = await LocalLimits(limits).draw(claims, "one")
    assert [standing.limit for standing in first.standings] == [REQUESTS, BUDGET, STREAMS]
    after = LocalLimits(other)
    assert [standing.used for standing in await after.read([REQUESTS, BUDGET, STREAMS])] == [0, 600, 0]
    assert (await after.draw(claims, "two")).refused is not None
    # A call that its budget refuses is none of any other limit.
    assert [standing.used for standing in await after.read([REQUESTS, BUDGET, STREAMS])] == [0, 600, 0]
    await after.settle([Correction(BUDGET, -300, first.standings[1].began_at)], "one")
    assert (await after.draw(claims, "two")).refused is None


async def test_a_process_alone_counts_minutes_by_its_own_clock(limits: LimitStore) -> None:
    now = 100.0
    alone = LocalLimits(limits, clock=lambda: now)
    assert granted(await asyncio.gather(*(alone.draw([Claim(REQUESTS, 1)], "") for _ in range(200)))) == 10
    now += 59.9
    refused = (await alone.draw([Claim(REQUESTS, 1)], "")).refused
    assert refused is not None
    assert 0 < refused.rest_ms <= 101
    now += 0.2
    assert (await alone.draw([Claim(REQUESTS, 1)], "")).refused is None


async def shift(limits: LimitStore, milliseconds: int, name: str | None = None) -> None:
    """Have all windows be so much later: as if time had gone by."""
    move = update(limit_counts).values(
        began_at=limit_counts.c.began_at + milliseconds, ends_at=limit_counts.c.ends_at + milliseconds
    )
    if name is not None:
        move = move.where(limit_counts.c.name == name)
    await limits._writer._database.write(lambda session: session.write(lambda connection: connection.execute(move)))
