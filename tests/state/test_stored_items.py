from typing import Any, get_args, get_origin

import orjson
import pytest
import typing_extensions
from msgspec.structs import replace
from openai.types.responses import response_input_item_param

from app.state.items.compacted import SEAL, sealed_for
from app.state.items.references import by_id
from app.state.items.stored_form import bind, distinct, input_items, output_items
from app.state.records import NO_ACCOUNT, Item
from tests.builders import ACCOUNT, OTHER, answers, calls, make_item, says, thinks, user

# Every type that a stateless upstream may be sent, with all the members that the gateway could touch.
_REQUIRED: object = typing_extensions.Required
_NAMED = {"id": "x_1", "status": "completed", "created_by": "user_1", "call_id": "call_1"}


def kept(value: dict[str, Any], **how: Any) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads(make_item(value, **how).content)
    return read


def required_by_the_sdk() -> dict[str, set[str]]:
    """What the SDK's input types require, by item type."""
    found: dict[str, set[str]] = {}
    for shape in get_args(response_input_item_param.ResponseInputItemParam):
        hints = typing_extensions.get_type_hints(shape, include_extras=True)
        kind = hints.get("type")
        while kind is not None and not isinstance(kind, str):
            kind = next(iter(get_args(kind)), None)
        names = {name for name, hint in hints.items() if get_origin(hint) is _REQUIRED}
        if kind is not None:
            found[kind] = found[kind] & names if kind in found else names
    return found


# Rule 4: these go as their simplest form; a reasoning item's encrypted content stands for its id.
_EASY_FORMS = {"message", "reasoning", "item_reference"}


@pytest.mark.parametrize("kind", sorted(required_by_the_sdk().keys() - _EASY_FORMS))
def test_the_members_that_a_type_requires_are_kept(kind: str) -> None:
    required = required_by_the_sdk()[kind] & _NAMED.keys()
    replayed = kept({"type": kind, **_NAMED}, is_output=True)
    assert required <= replayed.keys(), kind
    assert "created_by" not in replayed


@pytest.mark.parametrize(
    ("value", "dropped"),
    [
        (says("Hi"), {"id", "status"}),
        ({**says("Hi"), "phase": "final_answer", "created_by": "u"}, {"id", "status", "created_by"}),
        (thinks(status="completed"), {"id", "status"}),
        (calls(namespace="n"), {"id", "status"}),
        (
            {"type": "function_call_output", "call_id": "c", "output": "1", "id": "fco_1", "status": "completed"},
            {"id", "status"},
        ),
        (
            {
                "type": "custom_tool_call",
                "call_id": "c",
                "name": "n",
                "input": "",
                "id": "ctc_1",
                "status": "completed",
            },
            {"id", "status"},
        ),
        ({"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed", "created_by": "u"}, {"id", "created_by"}),
        ({"type": "apply_patch_call", "id": "apc_1", "call_id": "c", "status": "completed"}, {"id"}),
        ({"type": "computer_call", "id": "cu_1", "call_id": "c", "status": "completed"}, set()),
        ({"type": "local_shell_call", "id": "lsh_1", "call_id": "c", "status": "completed"}, set()),
        ({"type": "local_shell_call_output", "id": "c", "output": "{}"}, set()),
        ({"type": "mcp_call", "id": "mcp_1", "status": "completed", "created_by": "u"}, {"created_by"}),
        ({"type": "web_search_call", "id": "ws_1", "status": "completed"}, set()),
        ({"type": "brand_new", "id": "x_1", "status": "odd", "text": "1"}, {"id"}),
    ],
)
def test_ids_statuses_and_makers_are_stripped_where_the_type_allows(value: dict[str, Any], dropped: set[str]) -> None:
    expected = {name: member for name, member in value.items() if name not in dropped}
    assert kept(value, is_output=True) == expected
    assert kept(value) == expected


def test_what_needs_no_change_keeps_its_bytes() -> None:
    raw = b'{ "type":"message", "role":"user", "content":"\\u00e9", "n":1.0e2 }'
    assert input_items([orjson.loads(raw)], b"[" + raw + b"]", {})[0].content == raw


def test_a_change_keeps_the_bytes_of_the_other_members() -> None:
    raw = b'{"type":"message","id":"msg_1","role":"user","content":"\\u00e9\\/","n":1.0e2,"big":123456789012345678901}'
    content = input_items([orjson.loads(raw)], b"[" + raw + b"]", {})[0].content
    assert content == raw.replace(b'"id":"msg_1",', b"")


def test_text_becomes_a_user_message() -> None:
    (item,) = input_items('He said "hi"\u2028', b'"He said \\"hi\\"\xe2\x80\xa8"', {})
    assert item.id.startswith("msg_")
    assert (item.type, item.is_output, item.account) == ("message", False, None)
    assert orjson.loads(item.content) == {"type": "message", "role": "user", "content": 'He said "hi"\u2028'}


@pytest.mark.parametrize(
    ("value", "prefix"),
    [
        (user("Hi"), "msg_"),
        ({"role": "user", "content": "Hi"}, "msg_"),
        ({"role": "user", "content": "Hi", "id": None}, "msg_"),
        ({"role": "user", "content": "Hi", "id": ""}, "msg_"),
        (answers(), "fco_"),
        ({"type": "brand_new"}, "item_"),
    ],
)
def test_an_item_without_an_id_gets_one_of_its_type(value: dict[str, Any], prefix: str) -> None:
    assert make_item(value).id.startswith(prefix)
    assert make_item(value).id != make_item(value).id


def test_an_item_keeps_the_id_that_it_came_with() -> None:
    assert make_item(user("Hi", "my_own")).id == "my_own"
    assert make_item(says("Hi", "msg_9"), is_output=True).id == "msg_9"


def test_a_call_and_its_output_are_paired_by_their_call_id() -> None:
    assert make_item(calls("call_7")).call_id == make_item(answers("call_7")).call_id == "call_7"
    assert make_item(user("Hi")).call_id is None
    assert make_item({"type": "function_call", "call_id": 7}, is_output=True).call_id is None


def test_a_local_shell_output_names_its_call_by_either_id() -> None:
    assert make_item({"type": "local_shell_call_output", "id": "call_7", "output": "{}"}).call_id == "call_7"
    assert make_item({"type": "local_shell_call", "id": "call_7", "action": {}}, is_output=True).call_id == "call_7"
    both = {"type": "local_shell_call_output", "id": "lsho_1", "call_id": "call_7", "output": "{}"}
    assert make_item(both).call_id == "call_7"


@pytest.mark.parametrize(
    ("value", "account"),
    [
        (says("Hi"), None),
        (says("Hi", status="incomplete"), None),
        (calls(), None),
        (calls(status="incomplete"), None),
        (calls(status="in_progress"), None),
        (calls(status=["odd"]), None),
        (thinks(), ACCOUNT),
        (thinks(status="incomplete"), ACCOUNT),
        (thinks(encrypted_content=None), NO_ACCOUNT),
        (thinks(encrypted_content="", content=[]), NO_ACCOUNT),
        (thinks(encrypted_content=None, content=[{"type": "reasoning_text", "text": "Hm."}]), ACCOUNT),
        ({"type": "compaction", "encrypted_content": "sealed"}, ACCOUNT),
        ({"type": "web_search_call", "id": "ws_1", "status": "completed"}, ACCOUNT),
        ({"type": "web_search_call", "id": "ws_1", "status": "in_progress"}, ACCOUNT),
        ({"type": "mcp_list_tools", "id": "mcpl_1"}, ACCOUNT),
        ({"type": "brand_new"}, None),
        ({"text": "no type at all"}, None),
    ],
)
def test_an_output_item_knows_who_can_read_it_again(value: dict[str, Any], account: str | None) -> None:
    assert make_item(value, is_output=True).account == account


@pytest.mark.parametrize("status", ["incomplete", "failed", "cancelled"])
@pytest.mark.parametrize("unfinished", ["in_progress", "incomplete"])
def test_what_was_not_finished_in_a_response_that_did_not_complete_is_for_nobody(status: str, unfinished: str) -> None:
    for value in (calls(), thinks(), {"type": "web_search_call", "id": "ws_1"}):
        item = make_item({**value, "status": unfinished}, is_output=True, status=status)
        assert item.account == NO_ACCOUNT
    assert make_item(says("Hi", status=unfinished), is_output=True, status=status).account is None
    assert make_item(calls(), is_output=True, status=status).account is None


def test_output_items_keep_their_order() -> None:
    raw = [orjson.dumps(value) for value in (thinks(), calls(), says("Hi"))]
    items = output_items(raw, ACCOUNT, "completed")
    assert [item.id for item in items] == ["rs_1", "fc_1", "msg_1"]
    assert all(item.is_output for item in items)


def test_input_is_bound_to_the_account_that_could_read_it() -> None:
    given = [make_item(value) for value in (user("Hi"), thinks(), {"type": "compaction", "encrypted_content": "s"})]
    assert [item.account for item in given] == [None, None, None]
    assert [item.account for item in bind(given, ACCOUNT)] == [None, ACCOUNT, ACCOUNT]
    assert [item.account for item in bind(bind(given, ACCOUNT), OTHER)] == [None, ACCOUNT, ACCOUNT]


def test_what_was_sealed_is_for_the_upstream_that_made_it_or_for_any_that_is_translated() -> None:
    """Whichever key it was made with, and whichever account served a client that brings it."""
    sealed = thinks(encrypted_content=f"{SEAL}abc")
    made = make_item(sealed, is_output=True, account="chat/one")
    assert made.account == sealed_for("chat/two") == "chat/"
    given = make_item(sealed)
    assert given.account == sealed_for(None) == "/"
    assert [item.account for item in bind([given], "chat/one")] == ["/"]
    named = {"rs_1": replace(made, served_by="chat/one")}
    assert input_items([sealed], b"[" + orjson.dumps(sealed) + b"]", named)[0].account == "chat/"
    cut = make_item({**sealed, "status": "incomplete"}, is_output=True, account="chat/one", status="incomplete")
    assert cut.account == NO_ACCOUNT


def test_a_reference_becomes_the_item_it_names() -> None:
    named = make_item(thinks("rs_9"), is_output=True)
    given: list[Any] = [
        {"id": "rs_9"},
        {"type": "item_reference", "id": "rs_9"},
        {"type": None, "id": "rs_9"},
        user("Hi"),
    ]
    items = input_items(given, orjson.dumps(given), {"rs_9": named})
    expected = Item(named.id, "reasoning", is_output=False, content=named.content, account=ACCOUNT)
    assert list(items[:3]) == [expected] * 3
    assert items[3].type == "message"


_IMAGE = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "AAAA"}


def resolved_as(given: dict[str, Any], stored: dict[str, Any]) -> Item:
    """What an input item is kept as where this one is stored under its id."""
    found = {stored["id"]: make_item(stored, is_output=True)}
    [item] = input_items([given], orjson.dumps([given]), found)
    return item


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"type": "image_generation_call", "id": "ig_1"}, _IMAGE),
        ({"type": "image_generation_call", "id": "ig_1", "result": None, "size": "1024x1024"}, _IMAGE),
        ({"type": "reasoning", "id": "rs_1", "summary": []}, thinks()),
        ({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}, thinks()),
        ({"type": "function_call", "id": "fc_1"}, calls()),
        ({"type": "message", "id": "msg_1", "role": "assistant", "content": []}, says("Hi")),
        ({"type": "brand_new", "id": "x_1"}, {"type": "brand_new", "id": "x_1", "text": "1"}),
    ],
)
def test_a_stub_becomes_the_item_that_is_stored_under_its_id(given: dict[str, Any], stored: dict[str, Any]) -> None:
    original = make_item(stored, is_output=True)
    item = resolved_as(given, stored)
    assert item == Item(original.id, original.type, False, original.content, original.account, original.call_id)


def test_an_item_that_says_all_it_has_to_is_the_clients_own() -> None:
    edited = says("Not what was said.")
    assert resolved_as(edited, says("Hi")).content == make_item(edited).content
    # Whose container it is only the store knows.
    ran = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": "1", "outputs": []}
    assert resolved_as({**ran, "code": "2"}, ran).account == ACCOUNT


def test_an_id_that_names_something_of_another_type_fills_nothing_in() -> None:
    given = {"type": "image_generation_call", "id": "x_1", "result": None}
    assert resolved_as(given, user("Hi", "x_1")).type == "image_generation_call"


def test_an_empty_thought_that_nobody_knows_is_kept_and_sent_to_nobody() -> None:
    item = make_item({"type": "reasoning", "id": "rs_1", "summary": []})
    assert (item.id, item.account) == ("rs_1", NO_ACCOUNT)
    assert make_item({"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}).account is None


def test_of_several_items_with_one_id_each_reference_means_the_next() -> None:
    first, second = (make_item(thinks("rs_1", encrypted_content=text), is_output=True) for text in "12")
    reference = {"type": "item_reference", "id": "rs_1"}
    given = [reference, {"type": "reasoning", "id": "rs_1", "summary": []}, reference]
    items = input_items(given, orjson.dumps(given), by_id([first, second]))
    assert [item.content for item in items] == [first.content, second.content, second.content]
    assert all(item.twins == () for item in items)


def test_a_trigger_is_no_item() -> None:
    given = [user("Hi"), {"type": "compaction_trigger"}]
    assert [item.type for item in input_items(given, orjson.dumps(given), {})] == ["message"]


def test_an_approval_is_paired_with_its_request() -> None:
    request = {"type": "mcp_approval_request", "id": "mcpr_1", "arguments": "{}", "name": "f", "server_label": "s"}
    answer = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    assert make_item(request, is_output=True).call_id == make_item(answer).call_id == "mcpr_1"


def test_what_stands_already_is_left_out_and_no_two_items_have_one_id() -> None:
    one, two = make_item(user("1", "msg_1")), make_item(user("2", "msg_2"))
    other, said = make_item(user("3", "msg_1")), make_item(says("1", "msg_1"), is_output=True)
    new = distinct([one, two, two, other, said, said], {"msg_1": one})
    assert [item.content for item in new] == [two.content, other.content, said.content, said.content]
    assert len({item.id for item in (one, *new)}) == 5
    assert new[0] == two
