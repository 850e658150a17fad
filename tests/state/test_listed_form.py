"""Listed items: with an id, whole by OpenAI's own types, and otherwise as they came."""

from typing import Any

import orjson
import pytest

from app.state.items.listed_form import item_as_listed
from app.state.items.stored_form import input_items
from tests.builders import answers, calls, make_item, says, thinks, user
from tests.fakes.openai_document import document
from tests.fakes.openai_types import CONVERSATION_ITEM, ITEM, check


def read_listed(value: dict[str, Any], **how: Any) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads(item_as_listed(make_item(value, **how)))
    return read


def test_text_is_listed_as_a_part() -> None:
    (item,) = input_items("\u00e9", b'"\\u00e9"', {})
    assert b'"text":"\\u00e9"' in item_as_listed(item)
    assert orjson.loads(item_as_listed(item)) == {
        "id": item.id,
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "\u00e9"}],
        "status": "completed",
    }
    easy = read_listed({"role": "assistant", "content": "Hi"})
    assert easy["content"] == [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}]
    assert easy["type"] == "message"


def test_parts_are_listed_as_they_came() -> None:
    parts = [{"type": "input_text", "text": "Hi"}, {"type": "input_image", "image_url": "u", "detail": "low"}]
    assert read_listed({"role": "developer", "content": parts})["content"] == parts


# Members that OpenAI's document asks for, and the SDK's types do not have.
_BESIDE = ("call_id", "request_id")
_NEVER_LISTED = ("item_reference", "compaction_trigger")
_LEFT_OUT: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"role": "user", "content": "Hi", "status": None}, {"status": "completed"}),
    ({**answers(), "status": None, "name": None}, {"status": "completed", "name": None}),
    ({"type": "tool_search_call", "arguments": {}}, {"call_id": None, "execution": "server", "status": "completed"}),
    (
        {"type": "tool_search_output", "call_id": "c", "tools": []},
        {"call_id": "c", "execution": "client", "status": "completed"},
    ),
    (
        {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
        {"environment": None, "action": {"commands": ["ls"], "timeout_ms": None, "max_output_length": None}},
    ),
    ({"type": "shell_call_output", "call_id": "c", "output": []}, {"max_output_length": None, "status": "completed"}),
    ({"type": "mcp_approval_response", "approval_request_id": "a", "approve": True}, {"request_id": "a"}),
    ({"type": "local_shell_call_output", "id": "c", "output": "{}"}, {"call_id": "c"}),
    ({"type": "additional_tools", "role": "developer", "tools": []}, {"role": "developer", "tools": []}),
)
_LISTABLE: tuple[dict[str, Any], ...] = (
    user("Hi"),
    {"role": "system", "content": "Hi"},
    {"role": "developer", "content": [{"type": "input_text", "text": "Hi"}]},
    {"role": "assistant", "content": "Hi"},
    says("Hi"),
    thinks(),
    calls(),
    answers(),
    {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "n", "input": "", "status": "completed"},
    {"type": "custom_tool_call_output", "call_id": "c", "output": "1"},
    {"type": "computer_call", "id": "cu_1", "call_id": "c", "pending_safety_checks": [], "status": "completed"},
    {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": "u"}},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
    {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["q"]},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGk="},
    {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "status": "completed",
        "container_id": "cntr_1",
        "code": "1",
        "outputs": None,
    },
    {
        "type": "local_shell_call",
        "id": "lsh_1",
        "call_id": "c",
        "status": "completed",
        "action": {"type": "exec", "command": ["ls"], "env": {}},
    },
    {"type": "local_shell_call_output", "id": "c", "output": "{}"},
    {"type": "shell_call", "id": "sh_1", "call_id": "c", "action": {"commands": ["ls"]}, "status": "completed"},
    {"type": "mcp_call", "id": "mcp_1", "arguments": "{}", "name": "n", "server_label": "s"},
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": []},
    {"type": "mcp_approval_request", "id": "mcpr_1", "arguments": "{}", "name": "n", "server_label": "s"},
    {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"},
)


@pytest.mark.parametrize("is_output", [True, False])
@pytest.mark.parametrize("value", _LISTABLE)
def test_a_listed_item_is_openais_to_the_field(value: dict[str, Any], is_output: bool) -> None:
    read = read_listed(value, is_output=is_output)
    check(read, ITEM, beside=_BESIDE)
    check(read, CONVERSATION_ITEM, beside=(*_BESIDE, "status"))
    assert read["type"] == value.get("type", "message")
    assert read["id"] == value.get("id", read["id"])
    if "status" in value:
        assert read["status"] == value["status"]


@pytest.mark.parametrize(("left_out", "shown"), _LEFT_OUT)
def test_what_a_client_left_out_of_an_item_is_listed_as_the_api_has_it(
    left_out: dict[str, Any], shown: dict[str, Any]
) -> None:
    read = read_listed(left_out)
    assert {name: read.get(name) for name in shown} == shown
    check(read, ITEM, beside=_BESIDE)


def test_parts_are_listed_with_what_the_api_asks_for() -> None:
    said = read_listed({"role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]})
    assert said["content"] == [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}]
    image = {"type": "input_image", "image_url": "u"}
    assert read_listed({"role": "user", "content": [image]})["content"] == [{**image, "detail": "auto"}]
    assert read_listed({**answers(), "output": [{**image, "detail": None}]})["output"] == [{**image, "detail": "auto"}]


@pytest.mark.document
@pytest.mark.parametrize("kind", ["ItemResource", "ConversationItem"])
def test_openais_document_calls_each_item_that_it_allows_valid_when_it_is_listed(kind: str) -> None:
    faults = []
    for given in document().samples(document().schema("InputItem")):
        named = given.get("type") or ("message" if "role" in given else "item_reference")
        if named.endswith("_output"):
            # How far an output is, is for its client to say.
            given.pop("status", None)
        if named not in _NEVER_LISTED and not _is_halved(given):
            faults += [f"{named}: {fault}" for fault in document().faults(kind, read_listed(given))]
    assert sorted(set(faults)) == []


def _is_halved(given: dict[str, Any]) -> bool:
    """Whether the document allows it in, and has no form of it to come out: an output that names no call."""
    return given.get("type") == "function_call_output" and not given.get("call_id")
