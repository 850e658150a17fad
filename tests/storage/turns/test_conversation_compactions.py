"""What was made of a deleted item goes with it: from its conversation, and from the responses that were told it."""

import orjson
import pytest

from app.state.records import Chain, Conversation, Item
from app.storage.conversations.locks import ConversationLockStore
from app.storage.conversations.store import ConversationStore
from app.storage.conversations.turn_commit import SaveTurn
from app.storage.responses.store import ResponseStore
from tests.storage.conftest import NOW, MakeResponse, message, standing

LEASE = 30


def compaction(name: str, *, is_output: bool = True) -> Item:
    content = orjson.dumps({"type": "compaction", "encrypted_content": f"antiphon.v1.{name}"})
    return Item(f"cmp_{name}", "compaction", is_output=is_output, content=content)


class Talk:
    """Turns in the conversation conv_1, and responses that continue them outside of it."""

    def __init__(self, holds: ConversationLockStore, responses: ResponseStore, make_response: MakeResponse) -> None:
        self._holds = holds
        self._responses = responses
        self._make = make_response

    async def turn(self, name: str, *items: Item) -> None:
        """A response made in the conversation."""
        hold = await self._holds.acquire("proj_a", "conv_1", name, LEASE)
        turns = await self._holds.read_turns(hold.key)
        told = turns[-1][0] if turns else 0
        await self._holds.save(SaveTurn.of(self._make(name, items=(message(f"{name}_in"), *items)), hold, told, {}))

    async def continued(self, name: str, before: str, *items: Item) -> None:
        """A response that continues that one."""
        chain = await self.chain(before)
        await self._responses.save(self._make(name, chain.key, items=(message(f"{name}_in"), *items)))

    async def chain(self, name: str) -> Chain:
        chain = await self._responses.read_chain("proj_a", f"resp_{name}", NOW)
        assert chain is not None
        return chain

    async def sent(self, name: str) -> list[str]:
        """The ids of what this response and those before it say."""
        return [item_id for turn in (await self.chain(name)).turns for item_id in turn.outline.ids]

    async def named(self, *item_ids: str) -> set[str]:
        """Those of these items that a reference finds."""
        return set(await self._responses.read_items("proj_a", item_ids, NOW))


@pytest.fixture
def talk(
    conversations: ConversationStore,
    holds: ConversationLockStore,
    responses: ResponseStore,
    make_response: MakeResponse,
) -> Talk:
    return Talk(holds, responses, make_response)


async def test_a_deleted_item_takes_along_the_compactions_that_were_made_of_it(
    conversations: ConversationStore, talk: Talk
) -> None:
    await talk.turn("a", compaction("before"), message("a_out"))
    await talk.turn("b", compaction("b"), message("b_out"))
    await conversations.add_items("proj_a", "conv_1", [compaction("sent", is_output=False)])
    await talk.turn("c", compaction("c"), message("c_out"))
    await conversations.delete_item("proj_a", "conv_1", "msg_a_out")
    assert await standing(conversations) == [
        *("msg_a_in", "cmp_before", "msg_b_in", "msg_b_out", "cmp_sent", "msg_c_in", "msg_c_out"),
    ]
    assert await conversations.read_items("proj_a", "conv_1", {"cmp_b", "cmp_c"}) == {}
    # What was said in the turn of a compaction, before it.
    await conversations.delete_item("proj_a", "conv_1", "msg_a_in")
    assert (await standing(conversations))[0] == "msg_b_in"


async def test_a_deleted_compaction_takes_along_those_that_were_made_of_it(
    conversations: ConversationStore, talk: Talk
) -> None:
    for name in "abc":
        await talk.turn(name, compaction(name))
    await conversations.delete_item("proj_a", "conv_1", "cmp_b")
    assert await standing(conversations) == ["msg_a_in", "cmp_a", "msg_b_in", "msg_c_in"]


async def test_an_item_that_nothing_was_made_of_leaves_every_compaction(
    conversations: ConversationStore, talk: Talk
) -> None:
    await talk.turn("a", compaction("a"), message("a_out"))
    await conversations.delete_item("proj_a", "conv_1", "msg_a_out")
    assert await standing(conversations) == ["msg_a_in", "cmp_a"]
    assert await talk.named("cmp_a") == {"cmp_a"}


async def test_responses_that_were_told_it_are_continued_without_what_was_made_of_it(
    conversations: ConversationStore, talk: Talk
) -> None:
    await talk.turn("a", compaction("a"), message("a_out"))
    await talk.turn("b", compaction("b"))
    await talk.continued("fork", "b", compaction("fork"))
    await talk.continued("later", "fork", message("later_out"), compaction("later"))
    assert await talk.named("cmp_a", "cmp_b", "cmp_fork", "cmp_later") == {"cmp_a", "cmp_b", "cmp_fork", "cmp_later"}
    await conversations.delete_item("proj_a", "conv_1", "msg_a_out")
    assert await talk.sent("later") == [
        *("msg_a_in", "cmp_a", "msg_b_in", "msg_fork_in", "msg_later_in", "msg_later_out"),
    ]
    assert await talk.named("cmp_a", "cmp_b", "cmp_fork", "cmp_later", "msg_later_out") == {"cmp_a", "msg_later_out"}
    # What it answered stays as it was told.
    assert await talk.sent("a") == ["msg_a_in", "cmp_a", "msg_a_out"]


async def test_a_compaction_of_a_chain_that_is_broken_is_not_there_to_be_named(
    conversations: ConversationStore, responses: ResponseStore, talk: Talk, make_response: MakeResponse
) -> None:
    await responses.save(make_response("1"))
    await talk.continued("2", "1", compaction("2"), message("2_out"))
    await talk.turn("a", message("a_out"))
    await talk.continued("b", "a", compaction("b"))
    assert await talk.named("cmp_2", "cmp_b") == {"cmp_2", "cmp_b"}
    await responses.delete("proj_a", "resp_1", NOW)
    assert await talk.named("cmp_2", "cmp_b", "msg_2_out") == {"cmp_b", "msg_2_out"}
    await conversations.delete("proj_a", "conv_1")
    assert await talk.named("cmp_b") == set()


async def test_another_conversation_keeps_its_own(
    conversations: ConversationStore, responses: ResponseStore, talk: Talk
) -> None:
    await conversations.create("proj_a", Conversation("conv_2", NOW, b"{}"), [message("other")])
    await talk.turn("a", message("a_out"))
    await talk.turn("b", compaction("b"))
    await conversations.delete_item("proj_a", "conv_2", "msg_other")
    assert await standing(conversations) == ["msg_a_in", "msg_a_out", "msg_b_in", "cmp_b"]
    assert await talk.named("cmp_b") == {"cmp_b"}
