"""Each rule for the items of an input, and how an item without a type is told."""

from typing import Any

import pytest

from app.wire.requests.input_items import is_bare, is_stub, item_type
from tests.wire.refusals import (
    Refused,
    empty,
    message,
    missing,
    parse,
    refusal,
    too_long,
    valid,
    wrong_type,
    wrong_value,
)

PARTS = "one of a string or array of objects"
ROLES = "'user', 'assistant', 'system', and 'developer'"
ITEMS: list[tuple[Any, Refused]] = [
    (5, wrong_type("input[0]", "an input item", "an integer")),
    (None, wrong_type("input[0]", "an input item", "null")),
    ({"type": 1}, wrong_type("input[0].type", "a string", "an integer")),
    ({}, missing("input[0].type")),
    ({"content": "hi"}, missing("input[0].type")),
    ({"id": "msg_1", "content": "hi"}, missing("input[0].type")),
    (message(id=1), wrong_type("input[0].id", "a string", "an integer")),
    ({"type": "never_heard_of", "id": []}, wrong_type("input[0].id", "a string", "an array")),
    ({"type": "message", "content": "hi"}, missing("input[0].role")),
    (
        message(role=None),
        wrong_type("input[0].role", "one of 'user', 'assistant', 'system', or 'developer'", "null"),
    ),
    (message(role="tool"), wrong_value("input[0].role", "tool", ROLES)),
    ({"role": "user"}, missing("input[0].content")),
    (message(content=None), wrong_type("input[0].content", PARTS, "null")),
    (message(content=["hi"]), wrong_type("input[0].content[0]", "an object", "a string")),
    (message(content=[{"text": "hi"}]), missing("input[0].content[0].type")),
    (message(content=[{"type": 1}]), wrong_type("input[0].content[0].type", "a string", "an integer")),
    (
        message(role="assistant", content=[{"type": "output_text", "text": "a"}, {"type": "input_text", "text": "b"}]),
        wrong_value("input[0].content[1].type", "input_text", "'output_text' and 'refusal'"),
    ),
    ({"type": "function_call", "name": "f", "arguments": "{}"}, missing("input[0].call_id")),
    ({"type": "function_call", "call_id": "", "name": "f", "arguments": "{}"}, empty("input[0].call_id")),
    ({"type": "function_call", "call_id": "c", "arguments": "{}"}, missing("input[0].name")),
    ({"type": "function_call", "call_id": "c", "name": "f"}, missing("input[0].arguments")),
    (
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": {}},
        wrong_type("input[0].arguments", "a string", "an object"),
    ),
    ({"type": "function_call_output", "output": "x"}, missing("input[0].call_id")),
    ({"type": "function_call_output", "call_id": "c"}, missing("input[0].output")),
    ({"type": "function_call_output", "call_id": "c", "output": {}}, wrong_type("input[0].output", PARTS, "an object")),
    (
        {"type": "function_call_output", "call_id": "c", "output": "x" * 10_485_761},
        too_long("input[0].output", 10_485_760),
    ),
    ({"type": "custom_tool_call", "call_id": "c", "name": "f"}, missing("input[0].input")),
    ({"type": "custom_tool_call_output", "call_id": "c"}, missing("input[0].output")),
    ({"type": "reasoning", "encrypted_content": "x"}, missing("input[0].summary")),
    ({"type": "reasoning", "summary": "x"}, wrong_type("input[0].summary", "an array", "a string")),
    ({"type": "item_reference"}, missing("input[0].id")),
    ({"type": "item_reference", "id": None}, wrong_type("input[0].id", "a string", "null")),
    ({"id": "i" * 513}, too_long("input[0].id", 512)),
]


@pytest.mark.parametrize(
    ("item", "expected"),
    ITEMS,
    ids=[f"{number} {expected.param} {expected.code}" for number, (_, expected) in enumerate(ITEMS)],
)
def test_a_faulty_item_is_named_in_openais_words(item: Any, expected: Refused) -> None:
    error = refusal(valid(input=[item]))
    assert (error.code, error.param, error.message) == expected


def test_a_call_id_is_as_long_as_upstream_made_it() -> None:
    call = {"type": "function_call", "call_id": "c" * 5000, "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c" * 5000, "output": ""}
    assert parse(valid(input=[call, output])).input == [call, output]


def test_the_index_of_the_faulty_item_is_named() -> None:
    assert refusal(valid(input=[message(), message(), message(), 1])).param == "input[3]"


def test_the_first_faulty_member_of_an_item_is_named() -> None:
    assert refusal(valid(input=[{"type": "function_call", "id": 1}])).param == "input[0].id"
    assert refusal(valid(input=[{"role": "tool"}])).param == "input[0].role"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"type": "hologram", "role": "user"}, "hologram"),
        ({"role": "user"}, "message"),
        ({"role": "user", "id": "msg_1", "type": None}, "message"),
        ({"id": "msg_1"}, "item_reference"),
        ({"id": "msg_1", "type": None}, "item_reference"),
        ({"id": "msg_1", "content": "hi"}, None),
        ({}, None),
    ],
)
def test_an_item_without_a_type_is_told_by_its_members(item: dict[str, Any], expected: str | None) -> None:
    assert item_type(item) == expected


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "id": "fc_1"},
        {"type": "compaction", "id": "cmp_1"},
        {"type": "reasoning", "id": "rs_1"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"},
        {"role": "user", "id": "msg_1", "content": None},
        {"type": "function_call_output", "name": "f", "output": "42"},
        {"type": "function_call_output", "call_id": None, "name": "f", "output": "42"},
        {"type": "compaction_trigger"},
    ],
)
def test_what_names_a_stored_item_or_a_tool_needs_no_more(item: dict[str, Any]) -> None:
    parse(valid(input=[item]))


def test_less_than_its_content_is_told_by_type_and_nothing_by_what_else_there_is() -> None:
    image = {"type": "image_generation_call", "id": "ig_1", "size": "auto"}
    assert is_stub(image)
    assert not is_bare(image)
    assert not is_stub({**image, "result": "AAAA"})
    assert not is_stub({"type": "image_generation_call", "size": "auto"})
    assert is_bare({"type": "brand_new", "id": "x_1", "text": None})
    assert not is_stub({"type": "brand_new", "id": "x_1", "text": "1"})
    assert not is_bare({"type": "brand_new", "summary": [], "id": "x_1"})
