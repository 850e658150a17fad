"""Which stored items an input names, openly or by saying less than they do."""

from typing import Any

import pytest

from app.state.items.references import References, by_id, items_in_chain, references
from app.state.items.stored_form import bind
from app.state.items.turn_packing import pack
from app.state.records import NO_ACCOUNT
from app.wire.json.sliced_decoder import Elements
from app.wire.json_body import Json
from tests.builders import ACCOUNT, answers, calls, make_chain, make_item, make_turn, says, thinks, user

_TRIGGER = {"type": "compaction_trigger"}
_APPROVAL = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
_REQUEST = {"type": "mcp_approval_request", "id": "mcpr_1", "arguments": "{}", "name": "f", "server_label": "s"}


@pytest.mark.parametrize(
    "given",
    [
        None,
        "text",
        [],
        [user("Hi"), {"role": "user", "content": "Hi"}, answers(), {**calls(), "id": None}],
        # These say all that they have to.
        [user("Hi", "msg_1"), thinks("rs_1"), calls(), says("Hi"), {**user("", "msg_2"), "content": "x"}],
        [{"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}],
        [{"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "AAAA"}],
    ],
)
def test_an_input_that_says_everything_itself_names_nothing(given: object) -> None:
    assert references(given).ids == set()
    assert not references(given).has_stubs


@pytest.mark.parametrize(
    "given",
    [
        {"id": "x_1"},
        {"type": None, "id": "x_1"},
        {"type": "item_reference", "id": "x_1"},
        {"type": "image_generation_call", "id": "x_1"},
        {"type": "image_generation_call", "id": "x_1", "status": "completed", "result": None},
        {"type": "function_call", "id": "x_1"},
        {"type": "message", "id": "x_1", "role": "assistant"},
        {"type": "brand_new", "id": "x_1", "created_by": "u"},
    ],
)
def test_what_says_nothing_but_its_id_is_a_reference_whatever_its_type(given: dict[str, Any]) -> None:
    assert references([user("Hi"), given]) == References(ids={"x_1"}, needs={"x_1"}, has_stubs=True)


@pytest.mark.parametrize(
    "given",
    [
        {"type": "reasoning", "id": "x_1", "summary": []},
        {"type": "reasoning", "id": "x_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "reasoning", "id": "x_1", "summary": [], "encrypted_content": None, "content": []},
        {"type": "image_generation_call", "id": "x_1", "result": "", "size": "1024x1024"},
        {"type": "computer_call", "id": "x_1", "call_id": "c", "pending_safety_checks": []},
        {"type": "message", "id": "x_1", "role": "assistant", "content": []},
    ],
)
def test_what_says_less_than_its_content_is_looked_up_and_need_not_be_found(given: dict[str, Any]) -> None:
    assert references([given, user("Hi")]) == References(ids={"x_1"}, has_stubs=True)


def test_an_approval_names_its_request_unless_that_stands_beside_it() -> None:
    assert references([_APPROVAL]) == References(ids={"mcpr_1"})
    assert references([_REQUEST, _APPROVAL]).ids == set()
    assert "mcpr_1" not in references([{**_APPROVAL, "approval_request_id": ["odd"]}]).ids


def test_a_call_that_names_a_container_is_looked_up_for_whose_it_is() -> None:
    ran = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": "1", "outputs": []}
    assert references([ran]) == References(ids={"ci_1"})


def test_only_a_trigger_at_the_end_asks_for_a_compaction() -> None:
    assert references([user("Hi"), _TRIGGER]) == References(has_triggers=True, asks_compaction=True)
    assert references([_TRIGGER, user("Hi")]) == References(has_triggers=True)


def test_a_large_input_is_looked_at_as_a_small_one() -> None:
    large = Elements([Json(b'{"id":"x_1"}'), Json(b'{"type":"compaction_trigger"}')])
    assert references(large) == references([{"id": "x_1"}, _TRIGGER])


def test_what_stands_in_the_chain_is_found_there_as_it_stands_last() -> None:
    old, new = make_turn([user("1", "msg_1")], [says("2", "msg_2")]), make_turn([user("3", "msg_1")], [thinks()])
    failed = make_turn([user("4", "msg_1")], [], status="failed")
    found = items_in_chain(make_chain(old, new, failed), {"msg_1", "msg_2", "msg_9"})
    assert {item_id: item.content for item_id, item in found.items()} == {
        "msg_1": new.items[0].content,
        "msg_2": old.items[1].content,
    }
    assert found["msg_1"].served_by == ACCOUNT
    assert items_in_chain(None, {"msg_1"}) == {}


def test_what_no_account_served_was_served_by_none() -> None:
    added = pack("completed", NO_ACCOUNT, bind([make_item(user("1", "msg_1"))], ACCOUNT))
    assert items_in_chain(make_chain(added), {"msg_1"})["msg_1"].served_by is None


def test_items_of_one_id_know_each_other() -> None:
    one, two, three = (make_item(thinks("rs_1", encrypted_content=text), is_output=True) for text in "123")
    [last] = by_id([one, two, three]).values()
    assert (last.content, last.twins) == (three.content, (one, two))
