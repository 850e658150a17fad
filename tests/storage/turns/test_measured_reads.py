"""What is large is measured before it is read, on every database: whoever has no room for it reads nothing."""

import asyncio

import pytest

from app.errors import OverloadedError
from app.state.items.item_pages import PageQuery
from app.state.records import Item
from app.state.runs import Page
from app.storage.conversations.locks import ConversationLockStore
from app.storage.conversations.store import ConversationStore
from app.storage.engine.database import READ_AT_ONCE_BYTES
from app.storage.responses.store import ResponseStore
from app.storage.runs.store import RunStore
from app.storage.turns.conversation_item_index import find
from app.storage.turns.conversation_turns import read_items
from tests.fakes.ordered_runs import create
from tests.storage.conftest import NOW, MakeResponse

LARGE = READ_AT_ONCE_BYTES


def said(name: str, size: int) -> Item:
    return Item(f"msg_{name}", "message", is_output=False, content=b'"%b"' % (b"x" * size))


class Room:
    """Takes note of what is asked for, up to so much."""

    def __init__(self, most: int = 1 << 40) -> None:
        self.most = most
        self.asked: list[int] = []

    async def reserve(self, size: int) -> None:
        self.asked.append(size)
        if sum(self.asked) > self.most:
            raise OverloadedError("no room")


async def grow(responses: ResponseStore, make_response: MakeResponse, size: int) -> None:
    """Three turns, of which the second has this size."""
    parent = None
    for name, length in ("a", 10), ("b", size), ("c", 10):
        await responses.save(make_response(name, parent, items=(said(name, length),)))
        chain = await responses.read_chain("proj_a", f"resp_{name}", NOW)
        assert chain is not None
        parent = chain.key


@pytest.mark.parametrize("size", [10, LARGE])
async def test_a_chain_is_counted_in_full_before_it_is_there(
    responses: ResponseStore, make_response: MakeResponse, size: int
) -> None:
    await grow(responses, make_response, size)
    room = Room()
    chain = await responses.read_chain("proj_a", "resp_c", NOW, room.reserve)
    assert chain is not None
    assert [len(turn.content) for turn in chain.turns] == [12, size + 2, 12]
    (counted,) = room.asked
    assert size + 26 <= counted <= size + 26 + 3 * 200
    with pytest.raises(OverloadedError):
        await responses.read_chain("proj_a", "resp_c", NOW, Room(size).reserve)


async def test_a_response_object_is_counted(responses: ResponseStore, make_response: MakeResponse) -> None:
    for name, body in ("small", b"{}"), ("large", b"x" * (LARGE + 1)):
        await responses.save(make_response(name, body=body))
        room = Room()
        assert await responses.read_body("proj_a", f"resp_{name}", NOW, room.reserve) == body
        assert room.asked == [len(body)]
    assert await responses.read_body("proj_a", "resp_none", NOW, Room(0).reserve) is None


async def test_of_items_those_are_read_that_are_named(responses: ResponseStore, make_response: MakeResponse) -> None:
    await responses.save(make_response("one", items=(said("a", LARGE), said("b", 10), said("c", LARGE))))
    await responses.save(make_response("two", items=(said("d", 20),)))
    room = Room()
    found = await responses.read_items("proj_a", ["msg_b", "msg_d"], NOW, room.reserve)
    assert {name: len(item.content) for name, item in found.items()} == {"msg_b": 12, "msg_d": 22}
    # The items, and the largest turn that they stand in, which is read to find them.
    assert room.asked == [12 + 22 + 2 * (LARGE + 2) + 12 + 2]
    with pytest.raises(OverloadedError):
        await responses.read_items("proj_a", ["msg_a"], NOW, Room(LARGE).reserve)


async def test_a_conversation_is_counted_as_its_responses_are(
    holds: ConversationLockStore, conversations: ConversationStore
) -> None:
    await conversations.add_items("proj_a", "conv_1", [said("a", 10)])
    await conversations.add_items("proj_a", "conv_1", [said("b", LARGE)])
    key = await holds.find("proj_a", "conv_1")
    room = Room()
    assert [len(turn.content) for _, turn in await holds.read_turns(key, room.reserve)] == [12, LARGE + 2]
    assert LARGE + 14 <= sum(room.asked) <= LARGE + 14 + 400
    with pytest.raises(OverloadedError):
        await holds.read_turns(key, Room(LARGE).reserve)
    with pytest.raises(OverloadedError):
        await holds.read_items(key, ["msg_b"], Room(LARGE).reserve)
    shown, has_more = await conversations.read_page("proj_a", "conv_1", PageQuery(limit=1, ascending=True))
    assert ([item.id for item in shown], has_more) == (["msg_a"], True)
    with pytest.raises(OverloadedError):
        await conversations.read_page("proj_a", "conv_1", PageQuery(), Room(LARGE).reserve)


async def test_what_grows_while_it_waits_for_room_is_measured_again(
    holds: ConversationLockStore, conversations: ConversationStore
) -> None:
    await conversations.add_items("proj_a", "conv_1", [said("a", LARGE)])
    key = await holds.find("proj_a", "conv_1")
    asked: list[int] = []

    async def reserve(size: int) -> None:
        if not asked:
            await conversations.add_items("proj_a", "conv_1", [said("b", 1000)])
        asked.append(size)

    assert len(await holds.read_turns(key, reserve)) == 2
    assert len(asked) == 2
    assert 1002 <= asked[1] <= 1002 + 200


async def test_a_log_is_read_in_parts_of_some_size(runs: RunStore) -> None:
    run = await create(runs)
    for number, size in enumerate([LARGE - 10, 100, 100, 3 * LARGE, 100], 2):
        assert await runs.append(run, Page(number, number, b"x" * size))
    await runs.end(run, "failed", b"y" * LARGE, keep_seconds=60, turn=None)
    after, parts, asked = 1, [], []
    while True:
        room = Room()
        view = await runs.read_log(run.key, after, room.reserve)
        assert view is not None
        parts.append([page.first for page in view.pages])
        asked.append(sum(room.asked))
        after = view.pages[-1].last
        if view.is_whole:
            break
        assert view.terminal_body is None
    assert parts == [[2], [3, 4], [5], [6]]
    assert asked == [LARGE - 10, 200, 3 * LARGE, 100 + LARGE]
    assert view.terminal_body == ("failed", b"y" * LARGE)


async def test_large_turns_that_come_together_are_all_kept(
    responses: ResponseStore, make_response: MakeResponse
) -> None:
    turns = [make_response(str(number), items=(said(str(number), number % 3 * LARGE),)) for number in range(8)]
    await asyncio.gather(*map(responses.save, turns))
    for number in range(8):
        chain = await responses.read_chain("proj_a", f"resp_{number}", NOW)
        assert chain is not None
        assert len(chain.turns[0].content) == number % 3 * LARGE + 2


async def test_a_log_that_is_deleted_while_it_is_read_says_nothing_more(runs: RunStore) -> None:
    run = await create(runs)
    assert await runs.append(run, Page(2, 2, b"x" * 2 * LARGE))
    await runs.end(run, "failed", b"y", keep_seconds=60, turn=None)

    async def reserve(_size: int) -> None:
        await runs.delete("proj_a", "resp_one")

    assert await runs.read_log(run.key, 1, reserve) is None


async def test_an_item_is_found_in_a_turn_that_another_was_taken_out_of_meanwhile(
    holds: ConversationLockStore, conversations: ConversationStore
) -> None:
    await conversations.add_items("proj_a", "conv_1", [said("a", 50), said("b", LARGE), said("c", 70)])
    key = await holds.find("proj_a", "conv_1")
    named = ["msg_a", "msg_b", "msg_c"]
    turns = await conversations._database.read(lambda connection: find(connection, key, named))
    await conversations.delete_item("proj_a", "conv_1", "msg_a")
    _, found = await conversations._database.read(lambda connection: read_items(connection, turns, named, 1 << 40))
    assert {name: len(item.content) for name, item in found.items()} == {"msg_b": LARGE + 2, "msg_c": 72}
