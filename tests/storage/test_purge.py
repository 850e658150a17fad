"""Each sweep goes on by itself, past a database that is down for a moment, and by the database's clock alone."""

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from app.errors import StorageError
from app.settings.gateway import StorageSettings
from app.settings.limits import LimitsSettings
from app.state.runs import RunRequest
from app.storage.engine.database import Database
from app.storage.idempotency.store import IdempotencyStore
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.purge import Purge
from app.storage.responses.store import ResponseStore
from app.storage.runs.store import RunStore
from app.storage.usage.store import UsageStore
from app.storage.writer.writer import Writer
from tests.fakes.duty import on_duty
from tests.storage.conftest import MakeResponse, count_responses

LONG_AGO = 1
DAY = 86_400


@pytest.fixture
def purge(
    database: Database,
    writer: Writer,
    responses: ResponseStore,
    runs: RunStore,
    *,
    usage: UsageStore,
    limits: DatabaseCounts,
) -> Purge:
    keys = IdempotencyStore(database, writer, LimitsSettings())
    return Purge(database, writer, runs, usage, limits, idempotency=keys, settings=StorageSettings())


async def test_a_sweep_follows_one_that_failed(
    purge: Purge,
    database: Database,
    responses: ResponseStore,
    make_response: MakeResponse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await responses.save(make_response("old", expires_at=LONG_AGO))
    tell_time, sweeps = database.tell_time, 0

    async def down_at_first() -> int:
        nonlocal sweeps
        sweeps += 1
        if sweeps == 1:
            raise StorageError("down")
        return await tell_time()

    monkeypatch.setattr(database, "tell_time", down_at_first)
    async with asyncio.timeout(10), on_duty(purge.steps["responses"], 0.01):
        while await count_responses(database) != (0, 0):
            await asyncio.sleep(0.01)
    assert sweeps > 1


async def test_each_sweep_is_a_step_of_its_own(
    purge: Purge, database: Database, runs: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = RunRequest("resp_1", "proj_a", "key_1", False, False, {}, b"{}")
    run = await runs.create(order, b"secret", None, owner="o", lease_seconds=60, most=10)
    assert run is not None
    assert await runs.end(run, "completed", b"secret", keep_seconds=0, turn=None)
    assert set(purge.steps) == {
        "responses",
        "conversations",
        "background runs",
        "idempotency keys",
        "usage",
        "counts of limits",
    }

    async def fails(*_: object, **__: object) -> int:
        raise StorageError("down")

    monkeypatch.setattr("app.storage.responses.expiry.ResponseExpiry._look", fails)
    with pytest.raises(StorageError):
        await purge.steps["responses"]()
    with capture_logs() as logs:
        await purge.steps["background runs"]()
    assert [(line["event"], line["count"]) for line in logs] == [("purged background runs", 1)]
    assert await runs.find("proj_a", "resp_1") is None


@pytest.mark.parametrize("ahead", [40 * DAY, -40 * DAY, 200])
async def test_a_process_with_a_wrong_clock_removes_nothing_and_says_so(
    purge: Purge,
    database: Database,
    responses: ResponseStore,
    make_response: MakeResponse,
    *,
    monkeypatch: pytest.MonkeyPatch,
    ahead: int,
) -> None:
    await responses.save(make_response("over", expires_at=LONG_AGO))
    real = time.time
    monkeypatch.setattr("app.storage.engine.clock.time.time", lambda: real() + ahead)
    for step in purge.steps.values():
        await step()
    assert await count_responses(database) == (1, 2)
    with pytest.raises(StorageError, match=r"clock is \d+ s (ahead of|behind) the database's.*removes nothing"):
        await database.check_clock()
    # What it writes and reads is by the database's clock all the same.
    assert abs(database.clock.now() - real()) < 60
    assert abs(database.clock.of(int(time.time())) - real()) < 60
    monkeypatch.setattr("app.storage.engine.clock.time.time", real)
    await database.check_clock()
    await purge.steps["responses"]()
    assert await count_responses(database) == (0, 0)


async def test_a_response_that_expired_a_moment_ago_is_left_to_who_continues_it(
    purge: Purge, database: Database, responses: ResponseStore, make_response: MakeResponse
) -> None:
    now = await database.tell_time()
    await responses.save(make_response("moment", expires_at=now - 5))
    await responses.save(make_response("minute", expires_at=now - 100))
    await purge.steps["responses"]()
    assert await count_responses(database) == (1, 2)
