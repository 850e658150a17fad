"""What a turn leaves, on every database: it is in its conversation and a response or in neither, and ends the lock."""

import asyncio
from dataclasses import replace

import pytest

from app.errors import NotFoundError, StorageError
from app.state.records import Chain, Conversation, Item
from app.storage.conversations.locks import ConversationLockStore
from app.storage.conversations.store import ConversationStore
from app.storage.conversations.turn_commit import SaveTurn
from app.storage.engine.database import Database
from app.storage.responses.store import ResponseStore
from tests.storage.conftest import NOW, MakeResponse, count_turns, message, standing
from tests.storage.conversations.conftest import LEASE, hold, turn_of


async def test_a_turn_is_in_both_places_and_ends_the_hold(
    conversations: ConversationStore,
    holds: ConversationLockStore,
    responses: ResponseStore,
    make_response: MakeResponse,
) -> None:
    await conversations.add_items("proj_a", "conv_1", [message("before")])
    held = await hold(holds)
    ((last, _),) = await holds.read_turns(held.key)
    await holds.save(turn_of(make_response("one"), held, last))
    assert await standing(conversations) == ["msg_before", "msg_one_in", "msg_one_out"]
    assert await responses.read_body("proj_a", "resp_one", NOW) == b"{}"
    assert (await conversations.read_items("proj_a", "conv_1", {"msg_one_out"}))["msg_one_out"].served_by == "account-1"
    await hold(holds, "call_2")


async def test_what_was_not_said_leaves_nothing_in_the_conversation(
    conversations: ConversationStore,
    holds: ConversationLockStore,
    responses: ResponseStore,
    make_response: MakeResponse,
) -> None:
    for status in ("failed", "cancelled", "incomplete"):
        assert await standing(conversations) == []
        await holds.save(turn_of(replace(make_response(status), status=status), await hold(holds)))
        assert await responses.read_body("proj_a", f"resp_{status}", NOW) == b"{}"
    assert await standing(conversations) == ["msg_incomplete_in", "msg_incomplete_out"]


async def test_input_that_stood_there_is_not_repeated(
    conversations: ConversationStore, holds: ConversationLockStore, make_response: MakeResponse
) -> None:
    await conversations.add_items("proj_a", "conv_1", [message("1")])
    held = await hold(holds)
    said = Item("msg_1", "message", is_output=True, content=message("1").content)
    response = make_response("one", items=(message("1"), message("2"), said))
    await holds.save(SaveTurn.of(response, held, 1, {"msg_1": message("1")}))
    first, second, third = await standing(conversations)
    assert (first, second) == ("msg_1", "msg_2")
    assert (await conversations.read_items("proj_a", "conv_1", {third}))[third].is_output


async def test_a_hold_that_was_lost_keeps_nothing(
    conversations: ConversationStore,
    holds: ConversationLockStore,
    other_process: ConversationLockStore,
    responses: ResponseStore,
    make_response: MakeResponse,
) -> None:
    held = await hold(holds, lease=0)
    await hold(other_process, "call_2")
    with pytest.raises(StorageError) as raised:
        await holds.save(turn_of(make_response("one"), held))
    assert raised.value.code == "conversation_lost"
    assert await standing(conversations) == []
    assert await responses.read_body("proj_a", "resp_one", NOW) is None


async def test_a_lease_that_ran_out_unnoticed_still_saves(
    conversations: ConversationStore, holds: ConversationLockStore, make_response: MakeResponse
) -> None:
    await holds.save(turn_of(make_response("one"), await hold(holds, lease=0)))
    assert len(await standing(conversations)) == 2


async def test_a_response_outlives_a_conversation_that_is_deleted_meanwhile(
    conversations: ConversationStore,
    holds: ConversationLockStore,
    responses: ResponseStore,
    make_response: MakeResponse,
    database: Database,
) -> None:
    await conversations.add_items("proj_a", "conv_1", [message("1")])
    held = await hold(holds)
    await conversations.delete("proj_a", "conv_1")
    await holds.save(turn_of(make_response("one"), held))
    assert await responses.read_body("proj_a", "resp_one", NOW) == b"{}"
    assert await responses.read_chain("proj_a", "resp_one", NOW) is None
    assert await count_turns(database) == (0, 0)
    with pytest.raises(NotFoundError):
        await conversations.delete("proj_a", "conv_1")


async def test_an_id_that_is_taken_leaves_the_conversation_as_it_was(
    conversations: ConversationStore,
    holds: ConversationLockStore,
    responses: ResponseStore,
    make_response: MakeResponse,
) -> None:
    await responses.save(make_response("one"))
    held = await hold(holds)
    with pytest.raises(StorageError) as raised:
        await holds.save(turn_of(make_response("one"), held))
    assert raised.value.code == "duplicate_response"
    assert await standing(conversations) == []


async def chain_of(responses: ResponseStore, name: str) -> Chain | None:
    return await responses.read_chain("proj_a", f"resp_{name}", NOW)


async def test_a_response_is_continued_with_what_stood_before_it(
    conversations: ConversationStore,
    holds: ConversationLockStore,
    responses: ResponseStore,
    make_response: MakeResponse,
) -> None:
    await conversations.add_items("proj_a", "conv_1", [message("before")])
    for name in ("one", "two"):
        held = await hold(holds)
        turns = await holds.read_turns(held.key)
        await holds.save(turn_of(make_response(name), held, turns[-1][0]))
    await conversations.add_items("proj_a", "conv_1", [message("after")])

    chain = await chain_of(responses, "two")
    assert chain is not None
    told = [item.id for turn in chain.turns for item in turn.items]
    assert told == ["msg_before", "msg_one_in", "msg_one_out", "msg_two_in", "msg_two_out"]
    await responses.save(make_response("child", chain.key))
    grown = await chain_of(responses, "child")
    assert grown is not None
    assert [item.id for turn in grown.turns for item in turn.items] == [*told, "msg_child_in", "msg_child_out"]

    await conversations.delete_item("proj_a", "conv_1", "msg_one_in")
    shortened = await chain_of(responses, "child")
    assert shortened is not None
    assert "msg_one_in" not in {item.id for turn in shortened.turns for item in turn.items}
    await conversations.delete("proj_a", "conv_1")
    assert (await chain_of(responses, "two"), await chain_of(responses, "child")) == (None, None)


async def test_a_deleted_response_stays_in_its_conversation(
    conversations: ConversationStore,
    holds: ConversationLockStore,
    responses: ResponseStore,
    make_response: MakeResponse,
) -> None:
    await holds.save(turn_of(make_response("one"), await hold(holds)))
    assert await responses.delete("proj_a", "resp_one", NOW)
    assert await standing(conversations) == ["msg_one_in", "msg_one_out"]


async def test_turns_saved_in_one_group_are_each_saved_once(
    conversations: ConversationStore, holds: ConversationLockStore, make_response: MakeResponse, database: Database
) -> None:
    names = [str(number) for number in range(20)]
    for name in names:
        await conversations.create("proj_a", Conversation(f"conv_g{name}", NOW, b"{}"), ())
    held = await asyncio.gather(*(holds.acquire("proj_a", f"conv_g{name}", f"call_{name}", LEASE) for name in names))
    await asyncio.gather(
        *(holds.save(turn_of(make_response(name), one)) for name, one in zip(names, held, strict=True))
    )
    for name in names:
        assert await standing(conversations, f"conv_g{name}") == [f"msg_{name}_in", f"msg_{name}_out"]
    assert await count_turns(database) == (20, 40)
