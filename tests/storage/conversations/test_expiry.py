"""Conversations that nobody changes go, after the days of their project, on every database."""

import pytest
from sqlalchemy import update

from app.errors import NotFoundError
from app.settings.gateway import StorageSettings
from app.state.records import Conversation
from app.storage.conversations.expiry import ConversationExpiry
from app.storage.conversations.locks import ConversationLockStore
from app.storage.conversations.store import ConversationStore
from app.storage.engine.database import Database
from app.storage.projects.store import ChangeProject
from app.storage.tables import conversations as table
from app.storage.writer.writer import Writer
from tests.storage.conftest import count_turns, message

DAY = 86_400


@pytest.fixture
def expiry(database: Database, writer: Writer) -> ConversationExpiry:
    return ConversationExpiry(database, writer, StorageSettings(retention_days=10))


async def was_used(database: Database, conversation_id: str, days_ago: float, *, is_noted: bool = True) -> int:
    """Have the conversation last used so long ago, as its own column says or the day it was made; returns now."""
    now = await database.tell_time()
    used_at = now - int(days_ago * DAY)
    values = {"used_at": used_at, "created_at": 1} if is_noted else {"used_at": None, "created_at": used_at}
    changed = update(table).where(table.c.id == conversation_id).values(values)
    await database.write(lambda session: session.write(lambda connection: connection.execute(changed)))
    return now


async def is_there(conversations: ConversationStore, conversation_id: str = "conv_1", project: str = "proj_a") -> bool:
    try:
        await conversations.read(project, conversation_id)
    except NotFoundError:
        return False
    return True


@pytest.mark.parametrize("is_noted", [True, False])
async def test_an_idle_conversation_goes_with_all_that_stands_in_it(
    database: Database, conversations: ConversationStore, expiry: ConversationExpiry, is_noted: bool
) -> None:
    await conversations.add_items("proj_a", "conv_1", [message("1"), message("2")])
    now = await was_used(database, "conv_1", 9.9, is_noted=is_noted)
    await was_used(database, "conv_other", 0)
    assert await expiry.remove(now) == 0
    now = await was_used(database, "conv_1", 10.1, is_noted=is_noted)
    assert await expiry.remove(now) == 1
    assert not await is_there(conversations)
    assert await count_turns(database) == (0, 0)


async def test_a_projects_own_days_come_before_its_retention_and_that_before_the_settings(
    database: Database, writer: Writer, conversations: ConversationStore
) -> None:
    expiry = ConversationExpiry(database, writer, StorageSettings(retention_days=1, conversation_days=20))
    # The second project keeps what it has for 7 days.
    await was_used(database, "conv_other", 8)
    now = await was_used(database, "conv_1", 8)
    assert await expiry.remove(now) == 1
    assert not await is_there(conversations, "conv_other", "proj_b")
    assert await writer.submit(ChangeProject("proj_a", 1, {"retention_days": 3, "conversation_days": 9}))
    assert await expiry.remove(now) == 0
    # Less than before holds at once.
    assert await writer.submit(ChangeProject("proj_a", 2, {"conversation_days": 5}))
    assert await expiry.remove(now) == 1


async def test_a_change_is_a_use_and_a_look_is_none(
    database: Database, conversations: ConversationStore, holds: ConversationLockStore, expiry: ConversationExpiry
) -> None:
    await was_used(database, "conv_other", 0)

    async def add() -> None:
        await conversations.add_items("proj_a", "conv_1", [message("1")])

    async def describe() -> None:
        await conversations.describe("proj_a", "conv_1", b"{}")

    async def hold() -> None:
        await holds.release(await holds.acquire("proj_a", "conv_1", "call_1", 30))

    for use in (add, describe, hold):
        now = await was_used(database, "conv_1", 11)
        await use()
        assert await expiry.remove(now) == 0, use
    now = await was_used(database, "conv_1", 11)
    await conversations.read("proj_a", "conv_1")
    await conversations.read_items("proj_a", "conv_1", {"msg_1"})
    assert await expiry.remove(now) == 1


async def test_a_conversation_that_is_held_stays(
    database: Database, conversations: ConversationStore, holds: ConversationLockStore, expiry: ConversationExpiry
) -> None:
    await was_used(database, "conv_other", 0)
    hold = await holds.acquire("proj_a", "conv_1", "call_1", 300)
    now = await was_used(database, "conv_1", 11)
    assert await expiry.remove(now) == 0
    await holds.release(hold)
    assert await expiry.remove(now) == 1


async def test_however_many_are_idle_all_go_in_one_sweep(
    database: Database, conversations: ConversationStore, expiry: ConversationExpiry
) -> None:
    for number in range(230):
        await conversations.create("proj_a", Conversation(f"conv_{number + 10}", 1, b"{}"), ())
    now = await was_used(database, "conv_other", 0)
    await was_used(database, "conv_1", 0)
    assert await expiry.remove(now) == 230
    assert await is_there(conversations)
