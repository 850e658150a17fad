"""What a request is held to where not all that may serve it are OpenAI: structure, ranges, and what we rely on."""

from typing import Any

import orjson
import pytest

from app.errors import InvalidRequestError
from app.wire.requests.conversation_bodies import parse_new_conversation, parse_new_items
from app.wire.requests.create import (
    CreateRequest,
    parse_compact_request,
    parse_count_request,
    parse_create_request,
    structurally,
)
from app.wire.websocket_messages import read_call
from tests.wire.refusals import (
    MAX_DEPTH,
    Refused,
    above,
    below,
    message,
    missing,
    too_long,
    valid,
    wrong_type,
)

# Each is refused of a call that OpenAI serves.
DEFINED_ELSEWHERE: list[dict[str, Any]] = [
    {"reasoning": {"effort": "default"}},
    {"reasoning": {"effort": 512}},
    {"reasoning": {"summary": "full"}},
    {"reasoning": {"context": "last_turn"}},
    {"service_tier": "on_demand"},
    {"include": ["no_inline_citations"]},
    {"text": {"format": {"type": "grammar", "grammar": "root"}}},
    {"text": {"format": {"type": "json_schema", "name": "a name of " + "x" * 64, "schema": {}}}},
    {"text": {"verbosity": "epic"}},
    {"tool_choice": "any"},
    {"tools": [{"type": "function", "name": "vendor.tool:" + "x" * 128}]},
    {"tools": [{"type": "namespace", "name": "n" * 65}]},
    {"truncation": "middle"},
    {"prompt_cache_retention": "7d"},
    {"max_output_tokens": 1},
    {"max_tool_calls": 0},
    {"presence_penalty": 5.5, "frequency_penalty": -3},
    {"context_management": [{"type": "compaction", "compact_threshold": 10}]},
    {"input": [message(role="tool")]},
    {"input": [message(role="assistant", content=[{"type": "input_text", "text": "a"}])]},
]


def parse(fields: dict[str, Any]) -> CreateRequest:
    return parse_create_request(orjson.dumps(fields), MAX_DEPTH, structurally)


@pytest.mark.parametrize("fields", DEFINED_ELSEWHERE, ids=lambda fields: str(fields)[:80])
def test_what_another_vendor_may_define_passes(fields: dict[str, Any]) -> None:
    sent = valid(**fields)
    with pytest.raises(InvalidRequestError):
        parse_create_request(orjson.dumps(sent), MAX_DEPTH)
    assert parse(sent).fields == sent
    raw = orjson.dumps(sent)
    assert parse_compact_request(raw, MAX_DEPTH, structurally).fields == sent
    assert parse_count_request(raw, MAX_DEPTH, structurally).fields == sent
    assert read_call(orjson.dumps({"type": "response.create", **sent}), MAX_DEPTH, structurally).generates


CHOICE = "one of an object or 'none', 'auto', or 'required'"
STILL_REFUSED: list[tuple[dict[str, Any], Refused]] = [
    ({"temperature": 2.5}, above("temperature", "decimal", 2, 2.5)),
    ({"top_p": -1}, below("top_p", "decimal", 0, -1)),
    ({"top_logprobs": 21}, above("top_logprobs", "integer", 20, 21)),
    ({"metadata": {"a": "v" * 513}}, too_long("metadata.a", 512)),
    ({"safety_identifier": "s" * 129}, too_long("safety_identifier", 128)),
    ({"max_output_tokens": 0}, below("max_output_tokens", "integer", 1, 0)),
    ({"max_output_tokens": 1.5}, wrong_type("max_output_tokens", "an integer", "a decimal")),
    (
        {"service_tier": 1},
        wrong_type("service_tier", "one of 'auto', 'default', 'fast', 'flex', or 'priority'", "an integer"),
    ),
    ({"truncation": {"a": 1}}, wrong_type("truncation", "one of 'auto' or 'disabled'", "an object")),
    ({"include": ["vendor.extra", 1]}, wrong_type("include[1]", "a string", "an integer")),
    ({"tool_choice": 7}, wrong_type("tool_choice", CHOICE, "an integer")),
    ({"tools": [{"type": "function"}]}, missing("tools[0].name")),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, missing("text.format.schema")),
    ({"stream": "yes"}, wrong_type("stream", "a boolean", "a string")),
    ({"input": [{"role": "tool"}]}, missing("input[0].content")),
    ({"input": [{"role": 5, "content": ""}]}, wrong_type("input[0].role", "a string", "an integer")),
]


@pytest.mark.parametrize(("fields", "expected"), STILL_REFUSED, ids=lambda case: str(case)[:80])
def test_structure_and_ranges_are_checked_whoever_serves(fields: dict[str, Any], expected: Refused) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse(valid(**fields))
    assert (caught.value.code, caught.value.param, caught.value.message) == expected


def test_of_two_faults_the_first_in_openais_order_is_told_whoever_serves() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse(valid(top_logprobs=99, service_tier="on_demand", temperature=9))
    assert caught.value.param == "temperature"


def test_who_serves_the_model_is_asked_only_where_a_rule_is_broken() -> None:
    asked: list[str | None] = []

    def is_strict(model: str | None) -> bool:
        asked.append(model)
        return False

    parse_create_request(orjson.dumps(valid(service_tier="flex")), MAX_DEPTH, is_strict)
    assert asked == []
    parse_create_request(orjson.dumps(valid(service_tier="on_demand")), MAX_DEPTH, is_strict)
    assert asked == ["m"]


def test_items_of_a_conversation_are_held_to_the_same() -> None:
    raw = orjson.dumps({"items": [message(role="tool")]})
    for parse_items in (parse_new_items, parse_new_conversation):
        with pytest.raises(InvalidRequestError, match="Supported values are"):
            parse_items(raw, MAX_DEPTH)
        parse_items(raw, MAX_DEPTH, structurally)


def test_a_conversation_needs_no_body() -> None:
    made = parse_new_conversation(b"", MAX_DEPTH)
    assert (made.metadata, made.items.raw) == (b"{}", b"[]")
