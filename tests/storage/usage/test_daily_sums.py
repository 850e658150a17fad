"""The sums of days: those of their hours, whoever has written these and whenever."""

from typing import Any

from sqlalchemy import delete, func, select, text

from app.state.usage import UsageSum
from app.storage.engine.database import Database
from app.storage.usage import store as usage_store
from app.storage.usage.store import UsageStore
from app.storage.usage.tables import usage_days, usage_hours
from tests.storage.usage.test_store import DAY, HOUR, MIDNIGHT, entry, summed, whole

TIMES = [MIDNIGHT + day * DAY + hour * HOUR + 5 for day in range(4) for hour in (0, 1, 23)]


async def fill(usage: UsageStore) -> None:
    for _ in range(2):
        await usage.record(
            [
                entry(at, model=model, api_key_id=key, cost_nano=at % 1000)
                for at in TIMES
                for model, key in (("a", "key_1"), ("b", "key_1"), ("a", "key_2"))
            ]
        )


async def of_hours(usage: UsageStore, **given: Any) -> list[UsageSum]:
    """The same sum from the hours alone."""
    return await whole(usage, **(given | {"group_by": ("hour",)}))


async def test_any_time_has_the_sum_of_its_hours(usage: UsageStore) -> None:
    await fill(usage)
    bounds = [MIDNIGHT - DAY, MIDNIGHT, MIDNIGHT + HOUR, MIDNIGHT + DAY, MIDNIGHT + 3 * DAY - 1, MIDNIGHT + 9 * DAY]
    for since in bounds:
        for until in bounds:
            for given in ({}, {"api_key_id": "key_2"}, {"project_id": "proj_a", "model": "b", "upstream": "main"}):
                time = {"since": since, "until": until}
                assert summed(await whole(usage, **time, **given)) == summed(await of_hours(usage, **time, **given))


async def test_days_are_told_by_their_beginning(usage: UsageStore) -> None:
    await fill(usage)
    rows = await whole(usage, since=MIDNIGHT + HOUR, until=MIDNIGHT + 3 * DAY + HOUR, group_by=("day",))
    assert [(row.begins, row.requests) for row in rows] == [
        (MIDNIGHT, 12),
        (MIDNIGHT + DAY, 18),
        (MIDNIGHT + 2 * DAY, 18),
        (MIDNIGHT + 3 * DAY, 6),
    ]


async def test_of_whole_days_no_hour_is_read(usage: UsageStore, database: Database) -> None:
    await fill(usage)
    before = await whole(usage, since=MIDNIGHT, until=MIDNIGHT + 4 * DAY, group_by=("key", "model"))
    name = "usage_days ON usage_hours" if database.locks_rows else "usage_days_delete"
    await write(database, text(f"DROP TRIGGER {name}"))
    await write(database, delete(usage_hours))
    assert await whole(usage, since=MIDNIGHT, until=MIDNIGHT + 4 * DAY, group_by=("key", "model")) == before


async def test_what_is_removed_of_the_hours_is_gone_from_the_days(usage: UsageStore, database: Database) -> None:
    await fill(usage)
    await write(database, delete(usage_hours).where(usage_hours.c.api_key_id == "key_1"))
    assert summed(await whole(usage)) == summed(await of_hours(usage))
    await write(database, delete(usage_hours))
    count = select(func.count()).select_from(usage_days)
    assert await database.read(lambda connection: connection.scalar(count)) == 0


def test_a_summary_may_take_longer_than_what_a_call_waits_for() -> None:
    assert usage_store._SUMMARY_SECONDS > 10


async def write(database: Database, statement: Any) -> None:
    await database.write(lambda session: session.write(lambda connection: connection.execute(statement)))
