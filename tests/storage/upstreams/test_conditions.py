"""Accounts' health as processes tell each other: never early, never shorter than it was, one probe for all."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import combinations

import pytest
from sqlalchemy import text

from app.state.account_conditions import Condition, ConditionState, Recovery
from app.storage.engine.database import Database
from app.storage.schema_migration import open_for_migration
from app.storage.upstreams.conditions import ConditionStore, SeenCondition
from app.storage.writer.writer import Writer

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
    return {account: rest for account, told in (await told_of(store, since)).items() for _, rest in told.items()}


async def told_of(store: ConditionStore, since: int | None = None) -> dict[str, dict[str, float]]:
    """Of each account what is wrong with all of it, each with its rest."""
    told: dict[str, dict[str, float]] = {}
    for seen in (await store.look(since)).seen:
        for change in seen.changes:
            if isinstance(change, Condition):
                told.setdefault(change.account, {})[change.state] = change.rest
    return told


def age(database_url: str, seconds: int) -> None:
    """Have so much time pass for the rows, as the database's clock tells it."""
    with open_for_migration(database_url) as connection:
        connection.execute(text("UPDATE conditions SET until = until - :seconds"), {"seconds": seconds})


async def due_of(store: ConditionStore) -> list[SeenCondition]:
    return [seen for seen in (await store.look(0)).seen if seen.due_for is not None]


async def test_what_one_process_finds_out_another_sees(store: ConditionStore, other_process: ConditionStore) -> None:
    since = (await other_process.look(None)).now
    await store.keep([COOLING, Condition("main/one", "gpt-x", "removed", 60.0, 1, "404 model_not_found")])
    first, second = sorted((await other_process.look(since)).seen, key=lambda seen: seen.place)
    recovery, cooling = first.changes
    assert recovery == Recovery("main/one", "")
    assert isinstance(cooling, Condition)
    assert (cooling.state, cooling.reason) == ("cooling", "429 rate_limit_exceeded")
    assert 15.0 <= cooling.rest <= 17.0
    (removed,) = second.changes
    assert isinstance(removed, Condition)
    assert (removed.model, removed.step, second.due_for) == ("gpt-x", 1, None)


async def test_a_recovery_is_seen_once_and_is_gone_for_who_starts_later(
    store: ConditionStore, other_process: ConditionStore
) -> None:
    await store.keep([replace(DEAD, account="main/one")])
    before = await other_process.look(None)
    await store.keep([Recovery("main/one", ""), Recovery("main/unheard-of", "")])
    (after,) = (await other_process.look(before.now)).seen
    assert after.changes == (Recovery("main/one", ""),)
    assert after.mark != before.seen[0].mark
    assert (await other_process.look(None)).seen == []


async def test_a_rest_is_never_shortened_by_who_knows_less(
    store: ConditionStore, other_process: ConditionStore
) -> None:
    await store.keep([COOLING])
    await other_process.keep([Condition("main/one", "", "cooling", 2.0, 0, "429")])
    assert (await rest_of(store))["main/one"] >= 15.0
    # Another ailment is news, whatever its rest.
    await other_process.keep([Condition("main/one", "", "dead", 5.0, 0, "401")])
    assert (await told_of(store))["main/one"]["dead"] <= 7.0


SEVERE_FIRST: list[ConditionState] = ["dead", "parked", "open"]


@pytest.mark.parametrize(("worse", "milder"), [*combinations(SEVERE_FIRST, 2)])
@pytest.mark.parametrize("is_worse_first", [True, False])
async def test_the_worse_of_two_findings_stays_whoever_comes_last(
    store: ConditionStore,
    other_process: ConditionStore,
    worse: ConditionState,
    milder: ConditionState,
    is_worse_first: bool,
) -> None:
    found = [Condition("main/one", "", worse, 30.0, 2, "worse"), Condition("main/one", "", milder, 3600.0, 5, "milder")]
    first, second = found if is_worse_first else reversed(found)
    await store.keep([first])
    marks = await other_process.keep([second])
    # Who knows less hears of what is worse: the row says something else than it told.
    assert bool(marks) is not is_worse_first
    (seen,) = (await other_process.look(0)).seen
    (condition,) = seen.changes
    assert isinstance(condition, Condition)
    assert (condition.state, condition.step, condition.reason) == (worse, 2, "worse")
    assert 30.0 <= condition.rest <= 32.0


@pytest.mark.parametrize("state", SEVERE_FIRST)
@pytest.mark.parametrize("is_cooling_first", [True, False])
async def test_a_rate_limit_hides_nothing_worse_and_goes_on_beneath_it(
    store: ConditionStore,
    other_process: ConditionStore,
    database_url: str,
    state: ConditionState,
    is_cooling_first: bool,
) -> None:
    worse = Condition("main/one", "", state, 5.0, 0, "worse")
    first, second = (COOLING, worse) if is_cooling_first else (worse, COOLING)
    await store.keep([first])
    assert not await other_process.keep([second])
    told = (await told_of(store))["main/one"]
    assert list(told) == [state, "cooling"]
    assert told[state] <= 7.0
    assert told["cooling"] >= 15.0
    # It is not probed while upstream asks to be left alone.
    age(database_url, 10)
    assert await due_of(store) == []
    with open_for_migration(database_url) as connection:
        connection.execute(text("UPDATE conditions SET cooling_until = cooling_until - 20"))
    (due,) = await due_of(other_process)
    assert len(await other_process.claim([due], 15)) == 1


async def test_a_recovery_ends_what_it_is_of_and_leaves_the_rate_limit(
    store: ConditionStore, other_process: ConditionStore
) -> None:
    await store.keep([COOLING, Condition("main/one", "", "dead", 5.0, 0, "401")])
    # An answer to a process that knew of nothing worse says nothing of the key.
    assert not await other_process.keep([Recovery("main/one", "", "open")])
    assert list((await told_of(store))["main/one"]) == ["dead", "cooling"]
    await other_process.keep([Recovery("main/one", "", "dead")])
    told = (await told_of(store))["main/one"]
    assert list(told) == ["cooling"]
    assert told["cooling"] >= 15.0


async def test_what_a_probe_finds_replaces_what_was_worse(store: ConditionStore, other_process: ConditionStore) -> None:
    await store.keep([DEAD])
    parked = Condition("main/two", "", "parked", 3600.0, 0, "429 insufficient_quota", is_of_probe=True)
    assert await other_process.keep([parked])
    assert list((await told_of(store))["main/two"]) == ["parked"]


async def test_a_rate_limit_over_a_key_as_an_older_release_writes_it_is_read_as_one(
    store: ConditionStore, database_url: str
) -> None:
    await store.keep([DEAD])
    with open_for_migration(database_url) as connection:
        connection.execute(text("UPDATE conditions SET state = 'cooling', version = version + 1"))
    (seen,) = (await store.look(0)).seen
    # Nobody would probe the key: it is tried once more, and found out again.
    assert [type(change) for change in seen.changes] == [Recovery, Condition]


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
    assert due.place == ("main/two", "")
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
