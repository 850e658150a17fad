"""Writes lock rows in one order, and whoever holds a row holds up nobody but those who want it."""

import asyncio
import importlib
import pkgutil
import random
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from inspect import isabstract
from typing import Any

import pytest
from sqlalchemy import text

import app.storage
from app.errors import StorageError
from app.runtime.compute_thread import ComputeThread
from app.state.account_conditions import Condition
from app.state.limit_windows import Claim, Limit
from app.state.records import ApiKey, Conversation, Project
from app.state.runs import Page, RunRequest
from app.state.usage import UsageEntry
from app.storage.conversations.locks import (
    AcquireLock,
    ConversationLock,
    ConversationLockStore,
    ExtendLocks,
    ReleaseLock,
)
from app.storage.conversations.store import AddItems, ConversationStore, Create, Delete, DeleteItem, Describe
from app.storage.conversations.turn_commit import SaveTurn
from app.storage.engine.database import Database
from app.storage.keys.store import CreateKey, KeyStore, MarkKey
from app.storage.limits.database_counts import DatabaseCounts, DrawLimits
from app.storage.projects.store import CreateProject
from app.storage.responses.expiry import RemoveExpired
from app.storage.responses.store import DeleteResponse, ResponseStore, SaveResponse
from app.storage.runs.leases import ClaimRuns
from app.storage.runs.store import RunStore
from app.storage.runs.writes import AppendEvents, RequestCancel
from app.storage.tables import metadata
from app.storage.upstreams.conditions import ConditionStore
from app.storage.usage.writes import RecordUsage
from app.storage.writer.row_locks import LOCKED
from app.storage.writer.writer import Rank, Write, Writer
from tests.conftest import COMMIT_TIMEOUT
from tests.fakes.databases import locked
from tests.storage.conftest import NOW, MakeResponse, Replica

# What these insert has an id of ours, or a name by which they are sorted; what ClaimRuns finds locked it leaves.
WAIT_FOR_NO_ROW = {SaveResponse, Create, ClaimRuns}


def kinds() -> Iterator[type[Write[Any]]]:
    for module in pkgutil.walk_packages(app.storage.__path__, "app.storage."):
        importlib.import_module(module.name)
    known: list[Any] = [Write]
    for kind in known:
        known += kind.__subclasses__()
        # A dataclass with slots is made twice, and the first of it is nobody's.
        is_ours = kind.__module__.startswith("app.")
        if is_ours and getattr(sys.modules[kind.__module__], kind.__name__) is kind and not isabstract(kind):
            yield kind


def test_every_kind_of_write_has_its_place_and_says_what_it_locks() -> None:
    found = list(kinds())
    assert len(found) > 35
    for kind in found:
        assert isinstance(kind.rank, Rank), kind
        names_rows = kind.rows is not Write.rows
        assert names_rows or kind.is_apart or kind in WAIT_FOR_NO_ROW, f"{kind.__name__} locks rows and does not say"
        assert not (names_rows and kind in WAIT_FOR_NO_ROW), kind
    for kind in (SaveResponse, SaveTurn):
        assert kind.rank == Rank.TURNS
        assert kind.unique_name is not Write.unique_name


def test_rows_are_locked_in_the_order_of_tables_that_there_are() -> None:
    for table, order in LOCKED.items():
        key = metadata.tables[table].primary_key.columns
        assert order == ", ".join(column.name for column in key)


@asynccontextmanager
async def replica(url: str) -> AsyncIterator[Replica]:
    one = Replica(url)
    try:
        yield one
    finally:
        await one.aclose()


async def populate(one: Replica) -> tuple[list[int], list[int]]:
    """Two projects, and of the first some keys, conversations and runs; returns the keys of these."""
    for name in ("proj_a", "proj_b"):
        await one.writer.submit(CreateProject(Project(name, name, None, NOW)))
    for number in range(8):
        key = ApiKey(f"key_{number}", "proj_a", "k", "h", NOW, None, None)
        await one.writer.submit(CreateKey(key, b"%d" % number))
    conversations = ConversationStore(one.database, one.writer)
    for number in range(8):
        await conversations.create("proj_a", Conversation(f"conv_{number}", NOW, b"{}"), ())
    runs = RunStore(one.database, one.writer)
    made = [
        await runs.create(RunRequest(f"resp_{number}", "proj_a", "key_1", True, True, {}, b""), b"{}", None, owner="o",
                          lease_seconds=60, most=100)
        for number in range(8)
    ]  # fmt: skip
    holds = ConversationLockStore(one.database, one.writer)
    return [await holds.find("proj_a", f"conv_{number}") for number in range(8)], [run.key for run in made if run]


def any_write(chosen: random.Random, conversations: list[int], runs: list[int], name: str) -> Write[Any]:
    """One of the writes that calls and duties make, on a row that others write too."""
    number = chosen.randrange(8)
    shuffled = chosen.sample(range(8), 8)
    conversation = f"conv_{number}"
    limits = [Limit(f"key_{one}", "API key", "tokens", "day", 10**9) for one in shuffled]
    return chosen.choice(
        (
            Describe("proj_a", conversation, b"{}"),
            AcquireLock("proj_a", conversation, name, 0),
            ExtendLocks([ConversationLock(conversations[one], name) for one in shuffled], 1),
            ReleaseLock(ConversationLock(conversations[number], name)),
            RequestCancel(runs[number]),
            AddItems("proj_a", conversation, None),
            DeleteItem("proj_a", conversation, "msg_none"),
            RecordUsage([entry(one) for one in shuffled]),
            MarkKey(f"key_{number}", "blocked_at", NOW),
            DrawLimits(tuple(Claim(limit, 1) for limit in limits)),
            DeleteResponse("proj_a", f"resp_{number}", NOW),
            RemoveExpired(tuple(range(1, 9)), NOW, 10),
        )
    )


def entry(number: int) -> UsageEntry:
    return UsageEntry(NOW, "r", "proj_a", f"key_{number}", "responses", "m", is_stream=False, is_background=False)


@pytest.mark.slow
async def test_two_replicas_that_write_the_same_rows_in_any_order_never_deadlock(postgresql_url: str) -> None:
    async with replica(postgresql_url) as one, replica(postgresql_url) as other:
        conversations, runs = await populate(one)

        async def write(side: Replica, seed: int) -> None:
            chosen = random.Random(seed)  # noqa: S311 - the same again in each run
            for _ in range(40):
                await side.writer.submit(any_write(chosen, conversations, runs, f"call_{seed}"))

        async def note_uses(side: Replica) -> None:
            for _ in range(20):
                await KeyStore(side.database, side.writer).note_uses({f"key_{n}": NOW for n in range(8)})

        async def tell(side: Replica, seed: int) -> None:
            chosen = random.Random(seed)  # noqa: S311 - idem
            for _ in range(20):
                shuffled = chosen.sample(range(8), 8)
                changes = [Condition(f"a{n}", "", "cooling", 1.0, 0, "") for n in shuffled]
                await ConditionStore(side.database, side.writer).keep(changes)

        await asyncio.gather(
            *(write(side, 2 * seed + n) for seed in range(8) for n, side in enumerate((one, other))),
            *(note_uses(side) for side in (one, other)),
            *(tell(side, n) for n, side in enumerate((one, other))),
        )
        count = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert await one.database.read(lambda connection: connection.scalar(count)) == 0


LOCKS = {
    "a conversation": "SELECT * FROM conversations WHERE id = 'conv_1' FOR UPDATE",
    "a run": "SELECT * FROM runs WHERE id = 'resp_1' FOR UPDATE",
    "a key": "SELECT * FROM api_keys WHERE id = 'key_1' FOR UPDATE",
    "a count": "SELECT * FROM limit_counts FOR UPDATE",
}


@pytest.mark.parametrize("what", LOCKS)
async def test_a_row_that_is_held_holds_up_only_what_wants_it(
    postgresql_url: str, make_response: MakeResponse, what: str
) -> None:
    async with replica(postgresql_url) as one:
        _, runs = await populate(one)
        limits = DatabaseCounts(one.database, one.writer)
        mine = Claim(Limit("key_1", "API key", "tokens", "day", 10**9), 1)
        await limits.draw([mine], "")
        wanting: dict[str, Write[Any]] = {
            "a conversation": Describe("proj_a", "conv_1", b'{"a":"b"}'),
            "a run": AppendEvents(runs[1], 1, Page(1, 1, b"x")),
            "a key": MarkKey("key_1", "blocked_at", NOW),
            "a count": DrawLimits((mine,)),
        }
        store = ResponseStore(one.database, one.writer, ComputeThread())
        async with locked(postgresql_url, LOCKS[what]):
            waiting = [asyncio.create_task(one.writer.submit(wanting[what])) for _ in range(3)]
            async with asyncio.timeout(COMMIT_TIMEOUT - 1):
                for number in range(5):
                    # In one group with what waits, and behind it.
                    await asyncio.gather(
                        store.save(make_response(f"b{number}", project_id="proj_b")),
                        one.writer.submit(Describe("proj_a", "conv_2", b"{}")),
                        limits.draw([Claim(Limit("key_2", "API key", "tokens", "day", 10**9), 1)], ""),
                    )
            assert not any(task.done() for task in waiting)
        await asyncio.gather(*waiting)


async def test_a_row_that_stays_held_fails_what_wants_it_in_time(postgresql_url: str) -> None:
    async with replica(postgresql_url) as patient:
        await populate(patient)
    one = Replica(postgresql_url, commit_timeout=0.5)
    try:
        async with locked(postgresql_url, LOCKS["a conversation"]):
            with pytest.raises(StorageError, match="commit in time"):
                await one.writer.submit(Delete("proj_a", "conv_1"))
    finally:
        await one.aclose()


async def test_of_a_group_with_one_bad_write_the_others_are_committed_by_few_transactions(
    database: Database, writer: Writer, responses: ResponseStore, make_response: MakeResponse
) -> None:
    await responses.save(make_response("x100"))
    asked = 0
    write = database.write

    def counted(work: Any, **more: Any) -> Any:
        def run(session: Any) -> Any:
            begun = session.write

            def begin(*args: Any, **options: Any) -> Any:
                nonlocal asked
                asked += 1
                return begun(*args, **options)

            session.write = begin
            try:
                return work(session)
            finally:
                session.write = begun

        return write(run, **more)

    database.write = counted  # type: ignore[method-assign]  # to count its transactions
    outcomes = await asyncio.gather(
        *(responses.save(make_response(f"x{number:03}")) for number in range(200)), return_exceptions=True
    )
    assert [number for number, outcome in enumerate(outcomes) if outcome is not None] == [100]
    assert asked <= 2 * 9
