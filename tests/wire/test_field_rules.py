"""Each rule for the members of a request, and what its breach is called."""

from typing import Any

import pytest

from app.errors import InvalidRequestError
from app.wire.requests.create import parse_create_request
from tests.wire.refusals import (
    MAX_DEPTH,
    Refused,
    above,
    below,
    empty,
    missing,
    refusal,
    too_long,
    valid,
    wrong_pattern,
    wrong_type,
    wrong_value,
)

NOTHING_TO_ANSWER = Refused(
    "missing_required_parameter",
    None,
    "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be provided.",
)
EXCLUSIVE = Refused(
    "mutually_exclusive_parameters",
    None,
    "Mutually exclusive parameters: ''. Ensure you are only providing one of: 'pre..._id' or 'conversation'.",
)
EFFORTS = "'none', 'minimal', 'low', 'medium', 'high', 'xhigh', and 'max'"
TIERS = "'auto', 'default', 'fast', 'flex', and 'priority'"
ONE_TIER = "one of 'auto', 'default', 'fast', 'flex', or 'priority'"
INCLUDES = (
    "'file_search_call.results', 'web_search_call.results', 'web_search_call.action.sources', "
    "'message.input_image.image_url', 'computer_call_output.output.image_url', 'code_interpreter_call.outputs', "
    "'reasoning.encrypted_content', and 'message.output_text.logprobs'"
)
ONE_INCLUDE = (
    "one of 'fil...lts', 'web...lts', 'web...ces', 'mes...url', 'com...url', 'cod...uts', 'rea...ent', or 'mes...obs'"
)
ONE_EFFORT = "one of one of 'none', 'minimal', 'low', 'medium', 'high', 'xhigh', or 'max' or integer"
CHOICE = "one of an object or 'none', 'auto', or 'required'"


def wrong_prefix(param: str, value: str) -> Refused:
    return Refused("invalid_value", param, f"Invalid '{param}': '{value}'. Expected an ID that begins with 'conv'.")


PRESENCE: list[tuple[dict[str, Any], Refused]] = [
    ({}, missing("model")),
    ({"input": "hi"}, missing("model")),
    ({"model": "m"}, missing("input")),
    ({"model": "m", "prompt": None}, missing("input")),
    ({"model": "m", "previous_response_id": "resp_1"}, missing("input")),
    (
        {"model": "m", "messages": []},
        Refused(
            "unsupported_parameter",
            None,
            "Unsupported parameter: 'messages'. In the Responses API, this parameter has moved to 'input'.",
        ),
    ),
    (valid(model=None), wrong_type("model", "a string", "an object")),
    (valid(model=5), wrong_type("model", "a string", "an integer")),
    (valid(model=""), Refused("model_not_found", "model", "The requested model '' does not exist.")),
    (valid(input=None), wrong_type("input", "a string", "an object")),
    ({"model": 5, "prompt": {"id": "p"}}, wrong_type("model", "a string", "an integer")),
    ({"prompt": {"version": "1"}}, missing("prompt.id")),
    ({"model": "m", "input": None, "prompt": {"id": "p"}}, wrong_type("input", "a string", "an object")),
    (valid(input=5), wrong_type("input", "one of a string or array of input items", "an integer")),
    (valid(input={}), wrong_type("input", "one of a string or array of input items", "an object")),
    (valid(input="x" * 10_485_761), too_long("input", 10_485_760)),
    (valid(input=""), NOTHING_TO_ANSWER),
    (valid(input=[]), NOTHING_TO_ANSWER),
    (valid(input=[], previous_response_id=None), NOTHING_TO_ANSWER),
]
FIELDS: list[tuple[dict[str, Any], Refused]] = [
    ({"previous_response_id": 1}, wrong_type("previous_response_id", "a string", "an integer")),
    ({"previous_response_id": "r" * 513}, too_long("previous_response_id", 512)),
    ({"conversation": 1}, wrong_type("conversation", "one of a string or object", "an integer")),
    ({"conversation": {}}, missing("conversation.id")),
    ({"conversation": {"id": None}}, wrong_type("conversation.id", "a string", "null")),
    ({"conversation": "c" * 513}, too_long("conversation", 512)),
    ({"conversation": {"id": "c" * 513}}, too_long("conversation.id", 512)),
    ({"conversation": "thread_1"}, wrong_prefix("conversation", "thread_1")),
    ({"conversation": {"id": ""}}, wrong_prefix("conversation.id", "")),
    ({"conversation": "conv_1", "previous_response_id": "resp_1"}, EXCLUSIVE),
    ({"prompt": "p"}, wrong_type("prompt", "an object", "a string")),
    ({"prompt": {}}, missing("prompt.id")),
    ({"prompt": {"id": None}}, wrong_type("prompt.id", "a string", "null")),
    ({"moderation": True}, wrong_type("moderation", "an object", "a boolean")),
    ({"include": "x"}, wrong_type("include", f"an array of {ONE_INCLUDE}", "a string")),
    ({"include": ["nope"]}, wrong_value("include[0]", "nope", INCLUDES)),
    ({"include": ["reasoning.encrypted_content", 1]}, wrong_type("include[1]", ONE_INCLUDE, "an integer")),
    ({"tools": {}}, wrong_type("tools", "an array of tools", "an object")),
    ({"tools": [None]}, wrong_type("tools[0]", "an object", "null")),
    ({"tools": [{}]}, missing("tools[0].type")),
    ({"tools": [{"type": None}]}, wrong_type("tools[0].type", "a string", "null")),
    ({"tools": [{"type": "mcp"}, {"type": "function", "function": {"name": "chat"}}]}, missing("tools[1].name")),
    ({"tools": [{"type": "function", "name": 1}]}, wrong_type("tools[0].name", "a string", "an integer")),
    ({"tools": [{"type": "function", "name": ""}]}, empty("tools[0].name")),
    ({"tools": [{"type": "function", "name": "f" * 129}]}, too_long("tools[0].name", 128)),
    ({"tools": [{"type": "function", "name": "a.b"}]}, wrong_pattern("tools[0].name")),
    ({"tools": [{"type": "function", "name": "a\n"}]}, wrong_pattern("tools[0].name")),
    ({"tools": [{"type": "custom"}]}, missing("tools[0].name")),
    ({"tools": [{"type": "custom", "name": ""}]}, empty("tools[0].name")),
    ({"tools": [{"type": "namespace", "name": "n" * 65}]}, too_long("tools[0].name", 64)),
    ({"tool_choice": 1}, wrong_type("tool_choice", CHOICE, "an integer")),
    ({"tool_choice": "any"}, wrong_value("tool_choice", "any", "'none', 'auto', and 'required'")),
    ({"tool_choice": {"name": "f"}}, missing("tool_choice.type")),
    ({"tool_choice": {"type": 1}}, wrong_type("tool_choice.type", "a string", "an integer")),
    ({"tool_choice": {"type": "function"}}, missing("tool_choice.name")),
    ({"tool_choice": {"type": "custom", "name": 1}}, wrong_type("tool_choice.name", "a string", "an integer")),
    ({"metadata": []}, wrong_type("metadata", "a metadata object", "an array")),
    ({"metadata": {"a": 1}}, wrong_type("metadata.a", "a string", "an integer")),
    ({"metadata": {"a": None}}, wrong_type("metadata.a", "a string", "null")),
    ({"metadata": {"a": "v" * 513}}, too_long("metadata.a", 512)),
    (
        {"metadata": {str(number): "v" for number in range(17)}},
        Refused(
            "object_above_max_properties",
            "metadata",
            "Invalid 'metadata': too many properties. "
            "Expected an object with at most 16 properties, but got an object with 17 properties instead.",
        ),
    ),
    (
        {"metadata": {"k" * 300: "v"}},
        Refused(
            "string_above_max_length",
            "metadata." + "k" * 100,
            "Invalid property name in 'metadata': '" + "k" * 100 + "' is too long. "
            "Expected a string with maximum length 64, but got a string with length 300 instead.",
        ),
    ),
    ({"text": "x"}, wrong_type("text", "an object", "a string")),
    ({"text": {"verbosity": "max"}}, wrong_value("text.verbosity", "max", "'low', 'medium', and 'high'")),
    ({"text": {"format": "text"}}, wrong_type("text.format", "an object", "a string")),
    ({"text": {"format": {}}}, missing("text.format.type")),
    (
        {"text": {"format": {"type": "xml"}}},
        wrong_value("text.format.type", "xml", "'text', 'json_object', and 'json_schema'"),
    ),
    ({"text": {"format": {"type": "json_schema"}}}, missing("text.format.name")),
    ({"text": {"format": {"type": "json_schema", "name": "", "schema": {}}}}, empty("text.format.name")),
    ({"text": {"format": {"type": "json_schema", "name": "n" * 65, "schema": {}}}}, too_long("text.format.name", 64)),
    ({"text": {"format": {"type": "json_schema", "name": "é", "schema": {}}}}, wrong_pattern("text.format.name")),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, missing("text.format.schema")),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": []}}},
        wrong_type("text.format.schema", "an object", "an array"),
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": 1}}},
        wrong_type("text.format.strict", "a boolean", "an integer"),
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "description": 1}}},
        wrong_type("text.format.description", "a string", "an integer"),
    ),
    ({"temperature": "1"}, wrong_type("temperature", "a decimal", "a string")),
    ({"temperature": True}, wrong_type("temperature", "a decimal", "a boolean")),
    ({"temperature": 2.5}, above("temperature", "decimal", 2, 2.5)),
    ({"temperature": -1}, below("temperature", "decimal", 0, -1)),
    ({"top_p": 1.01}, above("top_p", "decimal", 1, 1.01)),
    ({"top_p": -0.1}, below("top_p", "decimal", 0, -0.1)),
    ({"presence_penalty": 3}, above("presence_penalty", "decimal", 2, 3)),
    ({"presence_penalty": -2.5}, below("presence_penalty", "decimal", -2, -2.5)),
    ({"frequency_penalty": 3}, above("frequency_penalty", "decimal", 2, 3)),
    ({"frequency_penalty": []}, wrong_type("frequency_penalty", "a decimal", "an array")),
    ({"parallel_tool_calls": "yes"}, wrong_type("parallel_tool_calls", "a boolean", "a string")),
    ({"stream": 1}, wrong_type("stream", "a boolean", "an integer")),
    ({"stream_options": True}, wrong_type("stream_options", "an object", "a boolean")),
    (
        {"stream_options": {"include_obfuscation": 0}},
        wrong_type("stream_options.include_obfuscation", "a boolean", "an integer"),
    ),
    ({"background": "no"}, wrong_type("background", "a boolean", "a string")),
    ({"background_options": 1}, wrong_type("background_options", "an object", "an integer")),
    ({"max_output_tokens": 15}, below("max_output_tokens", "integer", 16, 15)),
    ({"max_output_tokens": 16.0}, wrong_type("max_output_tokens", "an integer", "a decimal")),
    ({"max_output_tokens": True}, wrong_type("max_output_tokens", "an integer", "a boolean")),
    ({"max_tool_calls": 0}, below("max_tool_calls", "integer", 1, 0)),
    ({"reasoning": "high"}, wrong_type("reasoning", "an object", "a string")),
    ({"reasoning": {"effort": "huge"}}, wrong_value("reasoning.effort", "huge", EFFORTS)),
    (
        {"reasoning": {"effort": 3}},
        wrong_type("reasoning.effort", "one of 'minimal', 'low', 'medium', or 'high'", "an integer"),
    ),
    ({"reasoning": {"effort": ["low"]}}, wrong_type("reasoning.effort", ONE_EFFORT, "an array")),
    ({"reasoning": {"effort": True}}, wrong_type("reasoning.effort", ONE_EFFORT, "a boolean")),
    ({"reasoning": {"summary": "x"}}, wrong_value("reasoning.summary", "x", "'auto', 'concise', and 'detailed'")),
    ({"reasoning": {"context": "x"}}, wrong_value("reasoning.context", "x", "'auto', 'current_turn', and 'all_turns'")),
    ({"reasoning": {"mode": 1}}, wrong_type("reasoning.mode", "a string", "an integer")),
    ({"user": 1}, wrong_type("user", "a string", "an integer")),
    ({"safety_identifier": "s" * 129}, too_long("safety_identifier", 128)),
    ({"prompt_cache_options": []}, wrong_type("prompt_cache_options", "an object", "an array")),
    ({"prompt_cache_key": 1.5}, wrong_type("prompt_cache_key", "a string", "a decimal")),
    (
        {"prompt_cache_retention": "1h"},
        wrong_value("prompt_cache_retention", "1h", "'in_memory' and '24h'"),
    ),
    (
        {"prompt_cache_retention": {}},
        wrong_type("prompt_cache_retention", "one of 'in_memory' or '24h'", "an object"),
    ),
    ({"truncation": {"a": 1}}, wrong_type("truncation", "one of 'auto' or 'disabled'", "an object")),
    ({"truncation": "x" * 300}, wrong_value("truncation", "x" * 100, "'auto' and 'disabled'")),
    ({"instructions": ["be", "kind"]}, wrong_type("instructions", "a string", "an array")),
    ({"store": "false"}, wrong_type("store", "a boolean", "a string")),
    ({"service_tier": "gold"}, wrong_value("service_tier", "gold", TIERS)),
    ({"service_tier": {"a": 1}}, wrong_type("service_tier", ONE_TIER, "an object")),
    ({"top_logprobs": -1}, below("top_logprobs", "integer", 0, -1)),
    ({"top_logprobs": 21}, above("top_logprobs", "integer", 20, 21)),
    ({"context_management": {}}, wrong_type("context_management", "an array of objects", "an object")),
    ({"context_management": []}, empty("context_management", "an", "array")),
    ({"context_management": [{}]}, missing("context_management[0].type")),
    (
        {"context_management": [{"type": "compaction", "compact_threshold": 999}]},
        below("context_management[0].compact_threshold", "integer", 1000, 999),
    ),
    ({"access_programs": 1}, wrong_type("access_programs", "an object", "an integer")),
    ({"image": "x"}, wrong_type("image", "an object", "a string")),
]
RULES = [
    *PRESENCE,
    *[(valid(**fields), expected) for fields, expected in FIELDS],
]


@pytest.mark.parametrize(
    ("fields", "expected"),
    RULES,
    ids=[f"{number} {expected.param} {expected.code}" for number, (_, expected) in enumerate(RULES)],
)
def test_a_broken_rule_is_named_in_openais_words(fields: dict[str, Any], expected: Refused) -> None:
    error = refusal(fields)
    assert (error.code, error.param, error.message) == expected


@pytest.mark.parametrize(
    "digits", ["18446744073709551616", "12345678901234567890123", "1e3", "1.5"], ids=lambda digits: digits
)
def test_a_number_that_is_no_64_bit_integer_is_a_decimal(digits: str) -> None:
    raw = b'{"model":"m","input":"hi","max_output_tokens":' + digits.encode() + b"}"
    with pytest.raises(InvalidRequestError, match="expected an integer, but got a decimal instead"):
        parse_create_request(raw, MAX_DEPTH)
