"""Writes whose callers were told that they are late: withdrawn before they are committed, else undone."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg
import pytest
from sqlalchemy import Connection

from app.errors import NotFoundError, StorageError
from app.settings.limits import LimitsSettings
from app.state.idempotency import Fingerprint
from app.state.limit_windows import Claim, Limit
from app.state.records import Conversation, Project
from app.state.runs import RunRequest
from app.storage.conversations.locks import ConversationLockStore
from app.storage.conversations.store import ConversationStore, Delete
from app.storage.conversations.turn_commit import SaveTurn
from app.storage.engine.database import Database
from app.storage.idempotency.store import IdempotencyStore
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.meta import MetaStore
from app.storage.responses.store import ResponseStore, SaveResponse
from app.storage.runs.store import RunStore
from app.storage.writer import group_commit, write_queue
from app.storage.writer.writer import Write, Writer
from tests.fakes.commits import held_commits as held_by_another
from tests.storage.conftest import NOW, Count, MakeResponse, message, standing

_SECONDS = 30
_LATE = "commit in time"
_LIMIT = Limit("key_1", "API key", "tokens", "day", 100)
_STREAMS = Limit("key_1", "API key", "streams", None, 2)
_ORDER = RunRequest("resp_late", "proj_a", "key_1", True, False, {}, b"{}")


@pytest.fixture
async def impatient(database: Database) -> AsyncIterator[Writer]:
    """A writer whose callers wait for 0.3 s."""
    writer = Writer(database, 0.3)
    yield writer
    await writer.aclose()


@asynccontextmanager
async def held_commits(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """Commits that hang: each has begun, and is made when this ends. The event says that one has begun."""
    release, begun, loop = threading.Event(), asyncio.Event(), asyncio.get_running_loop()
    begin_commit = group_commit._begin_commit

    def begin_and_hang(*given: Any) -> None:
        begin_commit(*given)
        loop.call_soon_threadsafe(begun.set)
        release.wait(_SECONDS)

    with monkeypatch.context() as patch:
        patch.setattr(group_commit, "_begin_commit", begin_and_hang)
        try:
            yield begun
        finally:
            release.set()


async def becomes_true(holds_true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_SECONDS):
        while not await holds_true():
            await asyncio.sleep(0.02)


async def test_a_late_write_that_waits_for_another_process_is_withdrawn(
    database_url: str, impatient: Writer, responses: ResponseStore, make_response: MakeResponse
) -> None:
    async with held_by_another(database_url):
        for together in (["alone"], ["one", "two"]):
            writes: list[Write[Any]] = [SaveResponse.of(make_response(name)) for name in together]
            late = map(impatient.submit, [*writes, Delete("proj_a", "none")])
            outcomes = await asyncio.gather(*late, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes[:-1]] == [StorageError] * len(together)
    assert await impatient.hand_in(Count()) == 1
    for name in ("alone", "one", "two"):
        assert await responses.read_body("proj_a", f"resp_{name}", NOW) is None


async def test_what_is_withdrawn_from_a_group_takes_nobody_with_it(
    database: Database, impatient: Writer, responses: ResponseStore, make_response: MakeResponse
) -> None:
    release = threading.Event()
    database.write(lambda _: release.wait(_SECONDS))
    kept = impatient.hand_in(SaveResponse.of(make_response("kept")))
    with pytest.raises(StorageError, match=_LATE):
        await impatient.submit(SaveResponse.of(make_response("late")))
    release.set()
    await kept
    assert await responses.read_body("proj_a", "resp_kept", NOW) is not None
    assert await responses.read_body("proj_a", "resp_late", NOW) is None


async def test_a_commit_that_is_under_way_when_its_caller_is_late_is_told_as_it_ends(
    impatient: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "_COMMIT_SECONDS", _SECONDS)
    async with held_commits(monkeypatch) as begun:
        writing = asyncio.create_task(impatient.submit(Count()))
        await begun.wait()
        pending = impatient._first._group[0]
        async with asyncio.timeout(_SECONDS):
            while not pending.is_withdrawn:
                await asyncio.sleep(0.01)
    assert await writing == 1


async def test_a_hold_that_came_too_late_is_let_go(
    impatient: Writer, database: Database, holds: ConversationLockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = ConversationLockStore(database, impatient)
    async with held_commits(monkeypatch):
        with pytest.raises(StorageError, match=_LATE):
            await late.acquire("proj_a", "conv_1", "call_1", 300)
    await is_free(holds)


async def test_the_hold_of_a_caller_that_is_cancelled_is_let_go(holds: ConversationLockStore) -> None:
    caller = asyncio.create_task(holds.acquire("proj_a", "conv_1", "call_1", 300))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await is_free(holds)


async def test_a_key_that_was_claimed_too_late_is_for_the_next_call(
    impatient: Writer, database: Database, writer: Writer, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = Fingerprint("one", b"/v1/responses?")
    hashed.of(lambda _body, _depth: None)(b"{}", 9)
    request = hashed.request(project.id, "key_1")
    async with held_commits(monkeypatch):
        with pytest.raises(StorageError, match=_LATE):
            await IdempotencyStore(database, impatient, LimitsSettings()).claim(request, "late", 300)
    keys = IdempotencyStore(database, writer, LimitsSettings())

    async def can_be_claimed() -> bool:
        return await keys.claim(request, "next", 300) is None

    await becomes_true(can_be_claimed)


async def is_free(holds: ConversationLockStore) -> None:
    async def can_be_held() -> bool:
        try:
            await holds.acquire("proj_a", "conv_1", "call_2", 300)
        except Exception:  # noqa: BLE001 (it is locked)
            return False
        return True

    await becomes_true(can_be_held)


async def test_a_hold_is_released_however_late(
    database: Database, impatient: Writer, holds: ConversationLockStore
) -> None:
    held = await holds.acquire("proj_a", "conv_1", "call_1", 300)
    release = threading.Event()
    database.write(lambda _: release.wait(_SECONDS))
    with pytest.raises(StorageError, match=_LATE):
        await ConversationLockStore(database, impatient).release(held)
    release.set()
    await impatient.hand_in(Count())
    await holds.acquire("proj_a", "conv_1", "call_2", 300)


async def test_items_that_were_added_too_late_are_taken_out(
    impatient: Writer, database: Database, conversations: ConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await conversations.add_items("proj_a", "conv_1", [message("before")])
    late = ConversationStore(database, impatient)
    async with held_commits(monkeypatch):
        with pytest.raises(StorageError, match=_LATE):
            await late.add_items("proj_a", "conv_1", [message("pay"), message("now")])

    async def only_the_first_stands() -> bool:
        return await standing(conversations) == ["msg_before"]

    await impatient.hand_in(Count())
    await becomes_true(only_the_first_stands)
    await conversations.add_items("proj_a", "conv_1", [message("pay")])
    assert await standing(conversations) == ["msg_before", "msg_pay"]


async def test_a_turn_that_came_too_late_does_not_stand_in_its_conversation(
    impatient: Writer,
    holds: ConversationLockStore,
    conversations: ConversationStore,
    make_response: MakeResponse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold = await holds.acquire("proj_a", "conv_1", "call_1", 300)
    async with held_commits(monkeypatch):
        with pytest.raises(StorageError, match=_LATE):
            await impatient.submit(SaveTurn.of(make_response("late"), hold, 0, {}))

    async def nothing_stands() -> bool:
        return await standing(conversations) == []

    await impatient.hand_in(Count())
    await becomes_true(nothing_stands)


async def test_a_conversation_that_was_made_too_late_is_removed(
    impatient: Writer, database: Database, conversations: ConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = ConversationStore(database, impatient)
    async with held_commits(monkeypatch):
        with pytest.raises(StorageError, match=_LATE):
            await late.create("proj_a", Conversation("conv_late", NOW, b"{}"), [message("late")])

    async def is_gone() -> bool:
        try:
            await conversations.read("proj_a", "conv_late")
        except NotFoundError:
            return True
        return False

    await impatient.hand_in(Count())
    await becomes_true(is_gone)


@pytest.mark.parametrize("owner", ["me", None])
async def test_a_run_that_was_ordered_too_late_is_removed(
    impatient: Writer, database: Database, runs: RunStore, monkeypatch: pytest.MonkeyPatch, owner: str | None
) -> None:
    late = RunStore(database, impatient)
    async with held_commits(monkeypatch):
        with pytest.raises(StorageError, match=_LATE):
            await late.create(_ORDER, b"{}", None, owner=owner, lease_seconds=60, most=9)

    async def is_gone() -> bool:
        return await runs.find("proj_a", "resp_late") is None

    await impatient.hand_in(Count())
    await becomes_true(is_gone)


async def test_what_was_drawn_too_late_is_given_back(
    impatient: Writer, database: Database, limits: DatabaseCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await limits.draw([Claim(_LIMIT, 5), Claim(_STREAMS, 1)], "stream_1")
    late = DatabaseCounts(database, impatient)
    async with held_commits(monkeypatch):
        with pytest.raises(StorageError, match=_LATE):
            await late.draw([Claim(_LIMIT, 90), Claim(_STREAMS, 1)], "stream_2")

    async def is_given_back() -> bool:
        return [standing.used for standing in await limits.read([_LIMIT, _STREAMS])] == [5, 1]

    await impatient.hand_in(Count())
    await becomes_true(is_given_back)


@pytest.mark.parametrize("is_made", [True, False])
async def test_what_became_of_a_commit_whose_connection_was_lost_is_asked_of_postgresql(
    postgresql_url: str, is_made: bool
) -> None:
    database = Database(postgresql_url, pool_size=1, commit_timeout=20.0)
    writer = Writer(database, 20.0)

    def lose_next_commit(connection: Connection) -> None:
        driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        commit = driver.commit

        def lost() -> None:
            if is_made:
                commit()
            driver.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        driver.commit = lost  # type: ignore[method-assign]

    await database.write(lambda session: session.read(lose_next_commit), may_wait=True)
    meta = MetaStore(database, writer)
    if is_made:
        assert await meta.write_once("name", "kept") == "kept"
    else:
        with pytest.raises(StorageError):
            await meta.write_once("name", "kept")
    assert await meta.get("name") == ("kept" if is_made else None)
    await writer.aclose()
    await database.aclose()
