"""What is kept of conversations, on every database: what they show of themselves, and what stands in them."""

import time

import pytest
from sqlalchemy import select

from app.errors import InvalidRequestError, NotFoundError
from app.state.items.item_pages import PageQuery
from app.state.records import Conversation, Item
from app.storage.conversations import errors as refused
from app.storage.conversations import locks as hold_store
from app.storage.conversations.locks import ConversationLockStore
from app.storage.conversations.store import ConversationStore
from app.storage.engine.clock import DatabaseTime
from app.storage.engine.database import Database
from tests.storage.conftest import NOW, count_turns, message, standing

LEASE = 30


async def test_a_conversation_reads_back_as_it_was_made(conversations: ConversationStore) -> None:
    assert await conversations.read("proj_a", "conv_1") == Conversation("conv_1", NOW, b'{"a":"b"}')
    assert await conversations.describe("proj_a", "conv_1", b"{}") == Conversation("conv_1", NOW, b"{}")
    assert await conversations.read("proj_a", "conv_1") == Conversation("conv_1", NOW, b"{}")


@pytest.mark.parametrize("unknown", ["conv_other", "conv_2", "", "conv_\x00", "conv_\ud800"])
async def test_what_a_project_does_not_have_is_not_found(
    conversations: ConversationStore, holds: ConversationLockStore, unknown: str
) -> None:
    for asked in (
        conversations.read("proj_a", unknown),
        conversations.describe("proj_a", unknown, b"{}"),
        conversations.delete("proj_a", unknown),
        conversations.add_items("proj_a", unknown, [message("1")]),
        conversations.delete_item("proj_a", unknown, "msg_1"),
        conversations.read_items("proj_a", unknown, {"msg_1"}),
        conversations.read_page("proj_a", unknown, PageQuery()),
        holds.find("proj_a", unknown),
        holds.acquire("proj_a", unknown, "call_1", LEASE),
    ):
        with pytest.raises(NotFoundError) as raised:
            await asked
        assert raised.value.message == f"Conversation with id '{unknown}' not found."


async def test_items_stand_in_the_order_in_which_they_were_added(conversations: ConversationStore) -> None:
    await conversations.create("proj_a", Conversation("conv_2", NOW, b"{}"), [message("1"), message("2")])
    await conversations.add_items("proj_a", "conv_2", [message("3")])
    await conversations.add_items("proj_a", "conv_2", ())
    assert await standing(conversations, "conv_2") == ["msg_1", "msg_2", "msg_3"]
    found = await conversations.read_items("proj_a", "conv_2", {"msg_2", "msg_9"})
    assert found == {"msg_2": message("2")}


async def test_every_item_has_an_id_of_its_own(conversations: ConversationStore) -> None:
    await conversations.add_items("proj_a", "conv_1", [message("1"), message("2")])
    again, other = message("1"), Item("msg_1", "message", is_output=False, content=b"{}")
    (added,) = await conversations.add_items("proj_a", "conv_1", [again, other])
    assert added.content == b"{}"
    assert await standing(conversations) == ["msg_1", "msg_2", added.id]
    await conversations.delete_item("proj_a", "conv_1", "msg_1")
    assert await standing(conversations) == ["msg_2", added.id]


async def test_a_deleted_item_leaves_the_others_and_the_count(
    database: Database, conversations: ConversationStore
) -> None:
    await conversations.add_items("proj_a", "conv_1", [message("1"), message("2"), message("3")])
    assert await conversations.delete_item("proj_a", "conv_1", "msg_2") == Conversation("conv_1", NOW, b'{"a":"b"}')
    assert await standing(conversations) == ["msg_1", "msg_3"]
    with pytest.raises(NotFoundError, match=r"Item with id 'msg_2' not found\."):
        await conversations.delete_item("proj_a", "conv_1", "msg_2")
    for name in ("msg_1", "msg_3"):
        await conversations.delete_item("proj_a", "conv_1", name)
    assert await standing(conversations) == []
    assert await count_turns(database) == (1, 0)


async def test_pages_follow_each_other(conversations: ConversationStore) -> None:
    for name in ("1", "2", "3"):
        await conversations.add_items("proj_a", "conv_1", [message(f"{name}a"), message(f"{name}b")])
    first, more = await conversations.read_page("proj_a", "conv_1", PageQuery(limit=4))
    assert ([item.id for item in first], more) == (["msg_3b", "msg_3a", "msg_2b", "msg_2a"], True)
    last, more = await conversations.read_page("proj_a", "conv_1", PageQuery(limit=4, after="msg_2a"))
    assert ([item.id for item in last], more) == (["msg_1b", "msg_1a"], False)
    with pytest.raises(InvalidRequestError, match="Invalid 'after'"):
        await conversations.read_page("proj_a", "conv_1", PageQuery(after="msg_9"))


async def test_a_full_conversation_takes_no_more(
    conversations: ConversationStore, holds: ConversationLockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (hold_store, refused):
        monkeypatch.setattr(module, "MOST_ITEMS", 2)
    await conversations.add_items("proj_a", "conv_1", [message("1")])
    with pytest.raises(InvalidRequestError, match="at most 2 items") as raised:
        await conversations.add_items("proj_a", "conv_1", [message("2"), message("3")])
    assert raised.value.code == "conversation_full"
    await conversations.add_items("proj_a", "conv_1", [message("2")])
    with pytest.raises(InvalidRequestError, match="at most 2 items"):
        await holds.acquire("proj_a", "conv_1", "call_1", LEASE)
    await conversations.delete_item("proj_a", "conv_1", "msg_1")
    await holds.acquire("proj_a", "conv_1", "call_1", LEASE)


async def test_the_databases_clock_is_the_time(database: Database) -> None:
    now = await database.read(lambda connection: connection.scalar(select(DatabaseTime())))
    assert isinstance(now, int)
    assert abs(now - time.time()) < 60
