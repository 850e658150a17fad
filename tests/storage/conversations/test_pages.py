"""Pages of conversations: those of the whole list, of which no more is read than they show."""

import asyncio
import itertools
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, insert, select, update

from app.errors import InvalidRequestError
from app.state.items.item_pages import PageQuery, choose
from app.state.items.turn_packing import pack
from app.state.records import NO_ACCOUNT, Item
from app.storage.conversations import pages as conversation_pages
from app.storage.conversations.locks import ConversationLockStore
from app.storage.conversations.store import ConversationStore
from app.storage.engine.database import Database
from app.storage.tables import conversation_items, conversation_turns, conversations
from tests.storage.conftest import message, standing

TURNS = (("a",), ("b", "c", "d"), ("e",), ("f", "g"))
IDS = [f"msg_{name}" for turn in TURNS for name in turn]


@pytest.fixture
async def filled(conversations: ConversationStore) -> ConversationStore:
    """With some turns, of which one is empty by now."""
    for turn in TURNS:
        await conversations.add_items("proj_a", "conv_1", [message(name) for name in turn])
        await conversations.add_items("proj_a", "conv_1", [message("gone")])
        await conversations.delete_item("proj_a", "conv_1", "msg_gone")
    return conversations


@pytest.mark.parametrize("first_read", [1, 2, 8])
async def test_every_page_is_that_of_the_whole_list(
    filled: ConversationStore, monkeypatch: pytest.MonkeyPatch, first_read: int
) -> None:
    monkeypatch.setattr(conversation_pages, "_FIRST_READ", first_read)
    cursors = [None, "msg_a", "msg_c", "msg_d", "msg_g"]
    for limit, ascending, after, before in itertools.product((1, 2, 5, 100), (False, True), cursors, cursors):
        query = PageQuery(limit, ascending, after, before)
        items, has_more = await filled.read_page("proj_a", "conv_1", query)
        assert ([item.id for item in items], has_more) == choose(IDS, query, dict.fromkeys(IDS, 1)), query


async def test_a_page_of_large_items_is_shorter(filled: ConversationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.state.items.item_pages._PAGE_BYTES", 2 * len(message("a").content))
    for query, shown in (
        (PageQuery(), ["msg_g", "msg_f"]),
        (PageQuery(before="msg_a"), ["msg_c", "msg_b"]),
        (PageQuery(ascending=True, after="msg_e"), ["msg_f", "msg_g"]),
    ):
        items, has_more = await filled.read_page("proj_a", "conv_1", query)
        assert ([item.id for item in items], has_more) == (shown, query.after is None)


async def test_a_cursor_that_stands_nowhere_is_refused_by_its_name(filled: ConversationStore) -> None:
    for name, query in ("after", PageQuery(after="msg_gone")), ("before", PageQuery(before="msg_gone")):
        with pytest.raises(InvalidRequestError, match=f"Invalid '{name}': no item with id 'msg_gone'"):
            await filled.read_page("proj_a", "conv_1", query)


async def test_of_two_clients_that_give_one_id_at_the_same_time_one_gets_another(
    conversations: ConversationStore,
) -> None:
    items = [Item("msg_x", "message", is_output=False, content=b'"%d"' % number) for number in range(5)]
    added = await asyncio.gather(*[conversations.add_items("proj_a", "conv_1", [item]) for item in items])
    ids = await standing(conversations)
    assert sorted(item.id for (item,) in added) == sorted(ids)
    assert len(set(ids)) == 5
    assert "msg_x" in ids
    found = await conversations.read_items("proj_a", "conv_1", ids)
    assert {item.content for item in found.values()} == {item.content for item in items}


async def test_turns_of_a_release_without_the_index_are_found_and_then_indexed(
    filled: ConversationStore, holds: ConversationLockStore, database: Database
) -> None:
    key = await holds.find("proj_a", "conv_1")
    await in_turns(database, [[message("h"), message("i")], [message("h")]], key)
    assert set(await filled.read_items("proj_a", "conv_1", ["msg_a", "msg_i", "msg_x"])) == {"msg_a", "msg_i"}
    page, _ = await filled.read_page("proj_a", "conv_1", PageQuery(after="msg_i", limit=2))
    assert [item.id for item in page] == ["msg_h", "msg_g"]
    await filled.add_items("proj_a", "conv_1", [message("a"), message("j")])
    # Of those that came at the same time under one id, the later has got another.
    ids = await standing(filled)
    assert ids == [*IDS, "msg_h", "msg_i", ids[-2], "msg_j"]
    assert len(set(ids)) == len(ids)
    indexed = select(conversation_items.c.id).where(conversation_items.c.conversation_key == key)
    assert set(await database.read(lambda connection: connection.scalars(indexed).all())) == set(ids)
    await filled.delete_item("proj_a", "conv_1", "msg_i")
    assert "msg_i" not in await standing(filled)


async def test_an_item_that_another_release_has_deleted_may_come_again(
    filled: ConversationStore, holds: ConversationLockStore, database: Database
) -> None:
    key = await holds.find("proj_a", "conv_1")
    empty = {"outline": msgspec.msgpack.encode(pack("completed", NO_ACCOUNT, []).outline), "content": b""}
    of_first = select(conversation_items.c.turn_key).where(conversation_items.c.id == "msg_a")
    await write(
        database,
        lambda connection: connection.execute(
            update(conversation_turns).where(conversation_turns.c.key == of_first.scalar_subquery()).values(empty)
        ),
    )
    assert await holds.read_items(key, ["msg_a"]) == {}
    (added,) = await filled.add_items("proj_a", "conv_1", [message("a")])
    assert added.id == "msg_a"
    assert set(await holds.read_items(key, ["msg_a"])) == {"msg_a"}


async def test_a_deleted_conversation_leaves_nothing_in_the_index(
    filled: ConversationStore, database: Database
) -> None:
    await filled.delete("proj_a", "conv_1")
    assert await database.read(lambda connection: connection.scalars(select(conversation_items.c.id)).all()) == []


async def in_turns(database: Database, turns: list[list[Item]], key: int) -> None:
    """Add these turns as a release did that knew no index."""

    def add(connection: Connection) -> None:
        for items in turns:
            turn = pack("completed", NO_ACCOUNT, items)
            outline = msgspec.msgpack.encode(turn.outline)
            values = {"conversation_key": key, "outline": outline, "content": turn.content}
            connection.execute(insert(conversation_turns).values(values))
            count = {"item_count": conversations.c.item_count + len(items)}
            connection.execute(update(conversations).where(conversations.c.key == key).values(count))

    await write(database, add)


async def write(database: Database, work: Any) -> None:
    await database.write(lambda session: session.write(work))
