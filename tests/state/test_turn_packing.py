"""Which turns are sent on as they stand, and that all others are looked at item by item."""

from typing import Any

import orjson
import pytest

from app.state.items.history_input import replay
from app.state.items.turn_packing import pack
from app.state.records import NO_ACCOUNT, Item
from app.wire.json_body import join_array
from tests.builders import ACCOUNT, OTHER, calls, make_item, make_turn, says, thinks, user


def test_a_turn_gives_its_items_back_as_they_were() -> None:
    items = (
        make_item(user("1")),
        make_item(thinks("rs_1", encrypted_content=None), is_output=True),
        make_item(thinks("rs_2"), is_output=True),
        make_item(calls(), is_output=True),
        make_item(calls(status="incomplete"), is_output=True),
        Item("empty", "message", True, b""),
    )
    turn = pack("completed", ACCOUNT, items)
    assert turn.items == items
    assert (turn.status, turn.account, turn.outline.reader) == ("completed", ACCOUNT, NO_ACCOUNT)


def test_the_usual_turns_are_sent_as_they_stand() -> None:
    turns = [
        make_turn([user("1")], [thinks(), says("2", "msg_2")]),
        make_turn([user("poison")], [says("half", "msg_3")], status="failed"),
        make_turn([user("4")], [thinks("rs_5", encrypted_content=None), says("5", "msg_5")], account=OTHER),
        make_turn([], []),
    ]
    new = make_item(user("6"))
    parts = replay(turns, [new], {None, ACCOUNT}, bytes)
    assert parts == [turns[0].content, turns[2].content, new.content]
    said = orjson.loads(join_array(parts))
    assert [item["type"] for item in said] == ["message", "reasoning", "message", "message", "message", "message"]
    # The other account cannot read the first turn's thought.
    assert replay(turns, [new], {None, OTHER}, bytes) == [
        item.content for item in (*turns[0].items, *turns[2].items, new) if item.account is None
    ]


@pytest.mark.parametrize(
    "said",
    [
        [calls()],
        [says("2"), thinks()],
        [{"id": "cmp_1", "type": "compaction", "encrypted_content": "sealed"}, says("2")],
        [says("2", "msg_1"), says("2", "msg_1")],
    ],
)
def test_a_turn_whose_items_depend_on_others_is_looked_at(said: list[dict[str, Any]]) -> None:
    turn = make_turn([user("1")], said)
    assert turn.content not in replay([turn], [], {None, ACCOUNT}, bytes)


def test_an_item_that_stands_in_the_chain_already_has_it_looked_at() -> None:
    turn = make_turn([user("1", "msg_1")], [says("2", "msg_2")])
    again = make_item(user("1", "msg_1"))
    assert replay([turn], [again], {None, ACCOUNT}, bytes) == [item.content for item in turn.items]
