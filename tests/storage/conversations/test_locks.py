"""Who writes to a conversation, on every database: one at a time, for as long as the lease is extended."""

import asyncio

import pytest

from app.errors import InvalidRequestError, StorageError
from app.storage.conversations.locks import ConversationLock, ConversationLockStore
from app.storage.conversations.store import ConversationStore
from tests.storage.conftest import MakeResponse, message, standing
from tests.storage.conversations.conftest import LEASE, hold, turn_of


async def test_who_holds_a_conversation_alone_writes_to_it(
    conversations: ConversationStore, holds: ConversationLockStore
) -> None:
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


async def test_of_many_who_come_at_once_one_holds_it(
    holds: ConversationLockStore, other_process: ConversationLockStore
) -> None:
    stores = (holds, other_process)
    attempts = [hold(stores[number % 2], f"call_{number}") for number in range(40)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(outcome, ConversationLock) for outcome in outcomes) == 1
    assert {getattr(outcome, "code", "held") for outcome in outcomes} == {"held", "conversation_locked"}


async def test_a_hold_ends_with_its_lease_unless_it_is_extended(
    holds: ConversationLockStore, other_process: ConversationLockStore
) -> None:
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


async def test_a_runs_next_owner_takes_over_its_hold_and_the_former_neither_ends_nor_takes_it_back(
    conversations: ConversationStore,
    holds: ConversationLockStore,
    other_process: ConversationLockStore,
    make_response: MakeResponse,
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
