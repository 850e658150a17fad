"""Who writes to a conversation, on every database: one at a time, a turn that is in both places or none."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from app.errors import InvalidRequestError, NotFoundError, StorageError
from app.state.records import Chain, Conversation, Item, StoredResponse
from app.storage.conversation_store import ConversationStore
from app.storage.database import Database
from app.storage.hold_store import Hold, HoldStore, SaveTurn
from app.storage.response_store import ResponseStore
from app.storage.writer import Writer
from tests.storage.conftest import NOW, MakeResponse, count_turns, message, standing

LEASE = 30


def turn_of(response: StoredResponse, hold: Hold, last_turn_key: int = 0) -> SaveTurn:
    return SaveTurn.of(response, hold, last_turn_key, {})


@pytest.fixture
async def other_process(database_url: str, conversations: ConversationStore) -> AsyncIterator[HoldStore]:
    """The store of another process on the same database."""
    database = Database(database_url, pool_size=1, commit_timeout=5.0)
    writer = Writer(database, 5.0)
    yield HoldStore(database, writer)
    await writer.aclose()
    await database.aclose()


async def hold(holds: HoldStore, holder: str = "call_1", lease: int = LEASE) -> Hold:
    return await holds.acquire("proj_a", "conv_1", holder, lease)


async def test_who_holds_a_conversation_alone_writes_to_it(conversations: ConversationStore, holds: HoldStore) -> None:
    await conversations.add_items("proj_a", "conv_1", [message("1")])
    held = await hold(holds)
    for refused in (
        hold(holds, "call_2"),
        conversations.add_items("proj_a", "conv_1", [message("2")]),
        conversations.delete_item("proj_a", "conv_1", "msg_1"),
    ):
        with pytest.raises(InvalidRequestError) as raised:
            await refused
        assert (raised.value.status, raised.value.code, raised.value.param) == (
            400,
            "conversation_locked",
            "conversation",
        )
    assert await hold(holds) == held
    assert await standing(conversations) == ["msg_1"]
    await holds.release(held)
    await holds.release(held)
    await conversations.add_items("proj_a", "conv_1", [message("2")])
    assert (await hold(holds, "call_2")).key == held.key


async def test_of_many_who_come_at_once_one_holds_it(holds: HoldStore, other_process: HoldStore) -> None:
    stores = (holds, other_process)
    attempts = [hold(stores[number % 2], f"call_{number}") for number in range(40)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(outcome, Hold) for outcome in outcomes) == 1
    assert {getattr(outcome, "code", "held") for outcome in outcomes} == {"held", "conversation_locked"}


async def test_a_hold_ends_with_its_lease_unless_it_is_extended(holds: HoldStore, other_process: HoldStore) -> None:
    held = await hold(holds, lease=0)
    await holds.extend([held], LEASE)
    with pytest.raises(InvalidRequestError):
        await hold(other_process, "call_2")
    await holds.extend([held], 0)
    taken = await hold(other_process, "call_2")
    await holds.extend([held], -LEASE)
    await holds.release(held)
    with pytest.raises(InvalidRequestError):
        await hold(holds, "call_3")
    await other_process.release(taken)


async def test_a_turn_is_in_both_places_and_ends_the_hold(
    conversations: ConversationStore, holds: HoldStore, responses: ResponseStore, make_response: MakeResponse
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
    conversations: ConversationStore, holds: HoldStore, responses: ResponseStore, make_response: MakeResponse
) -> None:
    for status in ("failed", "cancelled", "incomplete"):
        assert await standing(conversations) == []
        await holds.save(turn_of(replace(make_response(status), status=status), await hold(holds)))
        assert await responses.read_body("proj_a", f"resp_{status}", NOW) == b"{}"
    assert await standing(conversations) == ["msg_incomplete_in", "msg_incomplete_out"]


async def test_input_that_stood_there_is_not_repeated(
    conversations: ConversationStore, holds: HoldStore, make_response: MakeResponse
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
    holds: HoldStore,
    other_process: HoldStore,
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
    conversations: ConversationStore, holds: HoldStore, make_response: MakeResponse
) -> None:
    await holds.save(turn_of(make_response("one"), await hold(holds, lease=0)))
    assert len(await standing(conversations)) == 2


async def test_a_response_outlives_a_conversation_that_is_deleted_meanwhile(
    conversations: ConversationStore,
    holds: HoldStore,
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
    conversations: ConversationStore, holds: HoldStore, responses: ResponseStore, make_response: MakeResponse
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
    conversations: ConversationStore, holds: HoldStore, responses: ResponseStore, make_response: MakeResponse
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
    conversations: ConversationStore, holds: HoldStore, responses: ResponseStore, make_response: MakeResponse
) -> None:
    await holds.save(turn_of(make_response("one"), await hold(holds)))
    assert await responses.delete("proj_a", "resp_one", NOW)
    assert await standing(conversations) == ["msg_one_in", "msg_one_out"]


async def test_turns_saved_in_one_group_are_each_saved_once(
    conversations: ConversationStore, holds: HoldStore, make_response: MakeResponse, database: Database
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


async def test_a_runs_next_owner_takes_over_its_hold_and_the_former_neither_ends_nor_takes_it_back(
    conversations: ConversationStore, holds: HoldStore, other_process: HoldStore, make_response: MakeResponse
) -> None:
    paused = await hold(holds, "resp_1@1")
    taken = await hold(other_process, "resp_1@2")
    await holds.release(paused)
    await holds.extend([paused], 0)
    for stranger in ("resp_1@1", "resp_1", "resp_10@3", "call_1"):
        with pytest.raises(InvalidRequestError, match="conversation"):
            await hold(holds, stranger)
    with pytest.raises(StorageError) as raised:
        await holds.save(turn_of(make_response("paused"), paused))
    assert raised.value.code == "conversation_lost"
    await other_process.save(turn_of(make_response("one"), taken))
    assert await standing(conversations) == ["msg_one_in", "msg_one_out"]
    await hold(holds, "call_1")
