"""What only the databases have to do for limits: locks in one order, leases of streams, a purge."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from app.errors import StorageError
from app.state.limit_windows import Claim, Correction, Limit
from app.storage.engine.database import Database
from app.storage.limits import database_counts
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.limits.tables import limit_streams
from app.storage.writer.writer import Write, Writer
from tests.fakes.counted import BUDGET, REQUESTS, STREAMS, shift
from tests.fakes.duty import on_duty


async def test_processes_that_need_each_others_counts_do_not_wait_for_each_other(
    limits: DatabaseCounts, other_limits: DatabaseCounts
) -> None:
    async def work(store: DatabaseCounts, number: int) -> None:
        for step in range(20):
            owners = [(7 * number + 11 * step + 13 * place) % 30 for place in range(3)]
            drawn = [Limit(f"key_{owner}", "API key", "tokens", "minute", 10_000) for owner in owners]
            verdict = await store.draw([Claim(limit, 1) for limit in drawn], "")
            began = [standing.began_at for standing in verdict.standings]
            await store.reconcile([Correction(*one) for one in zip(drawn, (1, 1, 1), began, strict=True)], "")
            await store.purge_expired(grace_seconds=0)

    async with asyncio.timeout(30):
        await asyncio.gather(*(work(store, number) for store in (limits, other_limits) for number in range(10)))
    every = [Limit(f"key_{owner}", "API key", "tokens", "minute", 10_000) for owner in range(30)]
    assert sum(standing.used for standing in await limits.read(every)) == 2 * 3 * 20 * 20


async def test_a_refused_call_holds_no_stream(limits: DatabaseCounts) -> None:
    full = Limit("proj_a", "project", "requests", "minute", 0)
    assert (await limits.draw([Claim(STREAMS, 1), Claim(full, 1)], "one")).refused is not None
    assert [standing.used for standing in await limits.read([STREAMS])] == [0]
    assert not limits._held


async def test_the_streams_of_a_killed_process_end_by_themselves(database: Database, writer: Writer) -> None:
    killed, alive = (
        DatabaseCounts(database, writer, lease_seconds=0.3),
        DatabaseCounts(database, writer, lease_seconds=10),
    )
    await killed.draw([Claim(STREAMS, 1)], "killed")
    await alive.draw([Claim(STREAMS, 1)], "alive")
    async with on_duty(alive.renew, alive.renew_seconds):
        async with asyncio.timeout(10):
            while (await alive.read([STREAMS]))[0].used > 1:
                await asyncio.sleep(0.05)
        assert (await alive.draw([Claim(STREAMS, 1)], "next")).refused is None
        assert (await alive.draw([Claim(STREAMS, 1)], "third")).refused is not None


async def test_what_is_over_is_purged_and_the_rest_is_kept(limits: DatabaseCounts, database: Database) -> None:
    await limits.draw([Claim(REQUESTS, 1), Claim(BUDGET, 5), Claim(STREAMS, 1)], "one")
    await shift(limits, -60_000, name="requests_per_minute")
    assert await limits.purge_expired(grace_seconds=0) == 2
    assert [standing.used for standing in await limits.read([REQUESTS, BUDGET, STREAMS])] == [0, 5, 1]
    assert await limits.purge_expired(grace_seconds=-60) == 1
    count = select(func.count()).select_from(limit_streams)
    assert await database.read(lambda connection: connection.scalar(count)) == 0


async def test_a_clock_that_was_set_back_grants_nothing_twice_and_locks_nobody_out(limits: DatabaseCounts) -> None:
    await limits.draw([Claim(REQUESTS, 10)], "")
    await shift(limits, 3_600_000)
    refused = (await limits.draw([Claim(REQUESTS, 1)], "")).refused
    assert refused is not None
    assert 59_000 < refused.rest_ms <= 60_000
    await shift(limits, -60_000)
    assert (await limits.draw([Claim(REQUESTS, 1)], "")).refused is None


async def test_a_database_that_is_away_grants_nothing(limits: DatabaseCounts, writer: Writer) -> None:
    await writer.aclose()
    with pytest.raises(StorageError):
        await limits.draw([Claim(REQUESTS, 1)], "")


async def test_a_settlement_that_fails_is_made_once_the_database_is_there(
    limits: DatabaseCounts, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = await limits.draw([Claim(BUDGET, 5), Claim(STREAMS, 1)], "one")
    spent = Correction(BUDGET, 400, verdict.standings[0].began_at)
    gone = Correction(STREAMS, -1, verdict.standings[1].began_at)
    hand_in, away = writer.hand_in, True

    def failing(write: Write[Any]) -> asyncio.Future[Any]:
        if away:
            raise StorageError("away")
        return hand_in(write)

    monkeypatch.setattr(writer, "hand_in", failing)
    with pytest.raises(StorageError):
        await limits.reconcile([spent, gone], "one")
    with pytest.raises(StorageError):
        await limits.reconcile_owed()
    assert [standing.used for standing in await limits.read([BUDGET, STREAMS])] == [5, 1]
    away = False
    await limits.reconcile_owed()
    await limits.reconcile_owed()
    assert [standing.used for standing in await limits.read([BUDGET, STREAMS])] == [405, 0]


async def test_a_settlement_that_is_late_is_made_once(
    limits: DatabaseCounts, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = await limits.draw([Claim(BUDGET, 5)], "")
    monkeypatch.setattr(database_counts, "_PATIENCE_SECONDS", 0.01)
    hand_in, outcome = writer.hand_in, asyncio.get_running_loop().create_future()
    handed: list[Write[Any]] = []

    def slow(write: Write[Any]) -> asyncio.Future[Any]:
        handed.append(write)
        return outcome

    monkeypatch.setattr(writer, "hand_in", slow)
    with pytest.raises(StorageError):
        await limits.reconcile([Correction(BUDGET, 400, verdict.standings[0].began_at)], "")
    monkeypatch.setattr(writer, "hand_in", hand_in)
    await limits.reconcile_owed()
    assert [standing.used for standing in await limits.read([BUDGET])] == [5], "nobody knows yet whether it was made"
    outcome.set_exception(StorageError("it was not"))
    await asyncio.sleep(0)
    await limits.reconcile_owed()
    assert [standing.used for standing in await limits.read([BUDGET])] == [405]
    assert len(handed) == 1
