"""Which calls name what only one upstream account has."""

from typing import Any

import orjson
import pytest

from app.state.items.account_bound import (
    asked_for_approval,
    chain_names_account_bound,
    has_container,
    item_names_account_bound,
    names_account_bound,
    was_made_by_upstream,
)
from app.state.items.compacted import compaction_item
from app.state.items.stored_form import bind
from app.state.items.turn_packing import pack
from tests.builders import ACCOUNT, OTHER, make_chain, make_item, make_turn, says, user

FILE = {"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}


def owned(**fields: Any) -> bool:
    return names_account_bound(fields, orjson.dumps(fields.get("input")))


@pytest.mark.parametrize(
    "fields",
    [
        {"input": [FILE]},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"file_id": "file_1"}]}]},
        {"input": [{"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": "1"}]},
        {"input": [{"type": "shell_call", "call_id": "c", "environment": {"container_id": "cntr_1"}}]},
        {"input": [{"type": "file_search_call", "id": "fs_1", "vector_store_ids": ["vs_1"]}]},
        {"input": "Hi.", "prompt": {"id": "pmpt_1"}},
        {"input": "Hi.", "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        {"input": "Hi.", "tools": [{"type": "code_interpreter", "container": "cntr_1"}]},
        {"input": "Hi.", "tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"]}}]},
        {"input": "Hi.", "tools": [{"type": "image_generation", "input_image_mask": {"file_id": "file_1"}}]},
        {"input": "Hi.", "tools": [{"type": "shell", "environment": {"container_id": "cntr_1"}}]},
    ],
)
def test_what_an_account_owns_is_seen(fields: dict[str, Any]) -> None:
    assert owned(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "file_id"},
        {"input": [user('"file_id": "file_1"')]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": None, "file_url": "http://x"}]}]},
        {"input": [{"type": "tool_search_output", "tools": [{"type": "function", "parameters": {"container": "x"}}]}]},
        {
            "input": [
                {"type": "function_call_output", "call_id": "c", "output": [{"type": ["odd"], "text": "container"}]}
            ]
        },
        # What a model said of a file is text by now.
        {"input": [{**says("2"), "content": [{"type": "output_text", "annotations": [{"file_id": "file_1"}]}]}]},
        {"input": "Hi.", "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
        {"input": "Hi.", "tools": [{"type": "function", "name": "f", "parameters": {"file_id": "free"}}]},
        {"input": "Hi.", "prompt": None, "tools": None},
    ],
)
def test_nothing_else_is(fields: dict[str, Any]) -> None:
    assert not owned(**fields)


def test_an_item_that_names_a_file_belongs_to_the_account_that_has_read_it() -> None:
    [item] = bind([make_item(FILE)], ACCOUNT)
    assert item.account == ACCOUNT
    assert item_names_account_bound(item.content)
    assert bind([make_item(user("1"))], ACCOUNT)[0].account is None


def test_a_chain_names_what_its_turns_were_given() -> None:
    naming = pack("completed", ACCOUNT, bind([make_item(FILE)], ACCOUNT))
    plain = make_turn([user("1")], [says("2")])
    assert chain_names_account_bound(make_chain(plain, naming, plain))
    assert not chain_names_account_bound(make_chain(plain))


def test_what_a_model_made_of_a_file_names_nothing() -> None:
    ran = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "outputs": [{"file_id": "f"}]}
    assert not chain_names_account_bound(make_chain(make_turn([user("1")], [ran, says("2")])))


@pytest.mark.parametrize("spelled", [b'"file_id"', b'"file\\u005fid"', b'"\\u0066ile_id"', b'"contain\\u0065r_id"'])
def test_a_name_is_seen_however_its_letters_are_written(spelled: bytes) -> None:
    content = b'{"type":"input_file",%b:"file_1"}' % spelled
    assert item_names_account_bound(content)
    assert names_account_bound({"input": [orjson.loads(content)]}, content)


_REQUEST = {"type": "mcp_approval_request", "id": "mcpr_1", "arguments": "{}", "name": "f", "server_label": "s"}
_APPROVAL = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
_RAN = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": "1", "outputs": []}


def test_an_approval_is_for_the_account_that_has_the_request() -> None:
    request = make_item(_REQUEST, is_output=True, account=OTHER)
    approval = [make_item(user("1")), make_item(_APPROVAL)]
    assert asked_for_approval(approval, {"mcpr_1": request}) == OTHER
    assert asked_for_approval(approval, {}) is None
    assert asked_for_approval([make_item(user("1"))], {"mcpr_1": request}) is None


@pytest.mark.parametrize(
    ("tool", "account"),
    [
        ({"type": "code_interpreter", "container": "cntr_1"}, OTHER),
        ({"type": "code_interpreter", "container": {"type": "auto"}}, OTHER),
        ({"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_1"}}, OTHER),
        ({"type": "code_interpreter", "container": "cntr_2"}, None),
        ({"type": "function", "name": "f"}, None),
    ],
)
def test_a_container_that_a_tool_goes_on_in_is_where_it_was_made(tool: dict[str, Any], account: str | None) -> None:
    chain = make_chain(make_turn([user("1")], [_RAN], account=OTHER), make_turn([user("2")], [says("3")]))
    assert has_container({"tools": [tool]}, chain) == account
    assert has_container({"tools": [tool]}, make_chain(make_turn([user("1")], [says("2")]))) is None
    assert has_container({"tools": None}, chain) is None


def test_what_this_gateway_made_itself_is_known_by_its_id_to_no_upstream() -> None:
    ours = orjson.loads(compaction_item("antiphon.v1.sealed"))
    theirs = {**ours, "encrypted_content": "gAAAA"}
    assert was_made_by_upstream(make_turn([user("1")], [says("2")]), ACCOUNT)
    assert was_made_by_upstream(make_turn([user("1")], [theirs]), ACCOUNT)
    assert was_made_by_upstream(make_turn([user("1"), ours], [says("2")]), ACCOUNT)
    assert not was_made_by_upstream(make_turn([user("1")], [says("2")]), OTHER)
    assert not was_made_by_upstream(make_turn([user("1")], []), ACCOUNT)
    assert not was_made_by_upstream(make_turn([user("1")], [ours]), ACCOUNT)
