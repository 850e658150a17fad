"""Accounts' health as processes tell each other: never early, never shorter than it was, one probe for all."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from app.state.health import Condition, Recovery
from app.storage.condition_store import ConditionStore, Sighting
from app.storage.database import Database
from app.storage.schema import open_for_migration
from app.storage.writer import Writer

COOLING = Condition("main/one", "", "cooling", 15.0, 0, "429 rate_limit_exceeded")
DEAD = Condition("main/two", "", "dead", 15.0, 3, "401 invalid_api_key")


@pytest.fixture
def store(database: Database, writer: Writer) -> ConditionStore:
    return ConditionStore(database, writer)


@pytest.fixture
async def other_process(database_url: str) -> AsyncIterator[ConditionStore]:
    database = Database(database_url, pool_size=1, commit_timeout=5.0)
    writer = Writer(database, 5.0)
    yield ConditionStore(database, writer)
    await writer.aclose()
    await database.aclose()


async def rest_of(store: ConditionStore, since: int | None = None) -> dict[str, float]:
    sightings = (await store.look(since)).sightings
    return {seen.change.account: seen.change.rest for seen in sightings if isinstance(seen.change, Condition)}


def age(database_url: str, seconds: int) -> None:
    """Have so much time pass for the rows, as the database's clock tells it."""
    with open_for_migration(database_url) as connection:
        connection.execute(text("UPDATE conditions SET until = until - :seconds"), {"seconds": seconds})


async def due_of(store: ConditionStore) -> list[Sighting]:
    return [seen for seen in (await store.look(0)).sightings if seen.is_due]


async def test_what_one_process_finds_out_another_sees(store: ConditionStore, other_process: ConditionStore) -> None:
    since = (await other_process.look(None)).now
    await store.keep([COOLING, Condition("main/one", "gpt-x", "removed", 60.0, 1, "404 model_not_found")])
    first, second = sorted((await other_process.look(since)).sightings, key=lambda seen: seen.change.model)
    assert isinstance(first.change, Condition)
    assert (first.change.state, first.change.reason) == ("cooling", "429 rate_limit_exceeded")
    assert 15.0 <= first.change.rest <= 17.0
    assert isinstance(second.change, Condition)
    assert (second.change.model, second.change.step, second.is_due) == ("gpt-x", 1, False)


async def test_a_recovery_is_seen_once_and_is_gone_for_who_starts_later(
    store: ConditionStore, other_process: ConditionStore
) -> None:
    await store.keep([COOLING])
    before = await other_process.look(None)
    await store.keep([Recovery("main/one", ""), Recovery("main/unheard-of", "")])
    (after,) = (await other_process.look(before.now)).sightings
    assert after.change == Recovery("main/one", "")
    assert after.mark != before.sightings[0].mark
    assert (await other_process.look(None)).sightings == []


async def test_a_rest_is_never_shortened_by_who_knows_less(
    store: ConditionStore, other_process: ConditionStore
) -> None:
    await store.keep([COOLING])
    await other_process.keep([Condition("main/one", "", "cooling", 2.0, 0, "429")])
    assert (await rest_of(store))["main/one"] >= 15.0
    # Another ailment is news, whatever its rest.
    await other_process.keep([Condition("main/one", "", "dead", 5.0, 0, "401")])
    assert (await rest_of(store))["main/one"] <= 7.0


async def test_a_clock_that_was_put_back_makes_no_rest_longer(store: ConditionStore, database_url: str) -> None:
    await store.keep([COOLING])
    age(database_url, -3600)
    assert (await rest_of(store))["main/one"] <= 17.0
    age(database_url, 7200)
    assert (await rest_of(store))["main/one"] == 0.0


async def test_of_many_processes_one_may_probe(
    store: ConditionStore, other_process: ConditionStore, database_url: str
) -> None:
    await store.keep([DEAD, COOLING])
    assert await due_of(store) == []
    age(database_url, 20)
    (due,) = await due_of(store)
    assert due.change.account == "main/two"
    claims = await asyncio.gather(*(one.claim([due], 15) for one in (store, other_process, store)))
    assert sorted(map(len, claims)) == [0, 0, 1]
    # While it has the time for it, nobody else gets any.
    assert await due_of(other_process) == []
    age(database_url, 20)
    assert await other_process.claim(await due_of(other_process), 15)


async def test_a_recovery_in_the_meantime_leaves_nothing_to_probe(store: ConditionStore, database_url: str) -> None:
    await store.keep([DEAD])
    age(database_url, 20)
    due = await due_of(store)
    await store.keep([Recovery("main/two", "")])
    assert await store.claim(due, 15) == []


async def test_what_was_over_long_ago_is_forgotten(store: ConditionStore, database_url: str) -> None:
    await store.keep([COOLING, DEAD])
    with open_for_migration(database_url) as connection:
        connection.execute(text("UPDATE conditions SET until = 1, changed_at = 1 WHERE account = 'main/one'"))
    await store.forget()
    assert list(await rest_of(store)) == ["main/two"]
