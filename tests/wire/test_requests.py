from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidRequestError
from app.wire.input_items import item_type
from app.wire.requests import CreateRequest, parse_create_request

MAX_DEPTH = 64


class Refused(NamedTuple):
    code: str
    param: str | None
    message: str


def parse(fields: dict[str, Any]) -> CreateRequest:
    return parse_create_request(orjson.dumps(fields), MAX_DEPTH)


def valid(**changes: Any) -> dict[str, Any]:
    return {"model": "m", "input": "hi"} | changes


def refusal(fields: dict[str, Any]) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        parse(fields)
    assert caught.value.status == 400
    assert orjson.loads(caught.value.body())["error"]["type"] == "invalid_request_error"
    return caught.value


def message(**members: Any) -> dict[str, Any]:
    return {"role": "user", "content": "hi"} | members


def wrong_type(param: str, expected: str, got: str) -> Refused:
    return Refused("invalid_type", param, f"Invalid type for '{param}': expected {expected}, but got {got} instead.")


def missing(param: str) -> Refused:
    return Refused("missing_required_parameter", param, f"Missing required parameter: '{param}'.")


def wrong_value(param: str, value: str, supported: str) -> Refused:
    return Refused("invalid_value", param, f"Invalid value: '{value}'. Supported values are: {supported}.")


def too_long(param: str, maximum: int, length: int | None = None) -> Refused:
    return Refused(
        "string_above_max_length",
        param,
        f"Invalid '{param}': string too long. Expected a string with maximum length {maximum}, "
        f"but got a string with length {length or maximum + 1} instead.",
    )


def empty(param: str, article: str = "a", kind: str = "string") -> Refused:
    return Refused(
        f"empty_{kind}",
        param,
        f"Invalid '{param}': empty {kind}. "
        f"Expected {article} {kind} with minimum length 1, but got an empty {kind} instead.",
    )


def below(param: str, kind: str, minimum: int, value: object) -> Refused:
    return Refused(
        f"{kind}_below_min_value",
        param,
        f"Invalid '{param}': {kind} below minimum value. Expected a value >= {minimum}, but got {value} instead.",
    )


def above(param: str, kind: str, maximum: int, value: object) -> Refused:
    return Refused(
        f"{kind}_above_max_value",
        param,
        f"Invalid '{param}': {kind} above maximum value. Expected a value <= {maximum}, but got {value} instead.",
    )


def wrong_pattern(param: str) -> Refused:
    return Refused(
        "invalid_value",
        param,
        f"Invalid '{param}': string does not match pattern. "
        "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
    )


def not_yet(param: str) -> Refused:
    return Refused(
        "unsupported_parameter", param, f"Unsupported parameter: '{param}' is not supported by this gateway yet."
    )


NOTHING_TO_ANSWER = Refused(
    "missing_required_parameter",
    None,
    "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be provided.",
)
EXCLUSIVE = Refused(
    "mutually_exclusive_parameters",
    None,
    "Mutually exclusive parameters: ''. "
    "Ensure you are only providing one of: 'previous_response_id' or 'conversation'.",
)
EFFORTS = "'none', 'minimal', 'low', 'medium', 'high', 'xhigh', and 'max'"
TIERS = "'auto', 'default', 'flex', 'scale', 'priority', 'fast', and 'ultrafast'"
INCLUDES = (
    "'file_search_call.results', 'web_search_call.results', 'web_search_call.action.sources', "
    "'message.input_image.image_url', 'computer_call_output.output.image_url', 'code_interpreter_call.outputs', "
    "'reasoning.encrypted_content', and 'message.output_text.logprobs'"
)
ROLES = "'user', 'assistant', 'system', and 'developer'"

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
    ({"conversation": "conv_1"}, not_yet("conversation")),
    ({"conversation": {"id": "conv_1"}}, not_yet("conversation")),
    ({"conversation": "conv_1", "previous_response_id": "resp_1"}, EXCLUSIVE),
    ({"prompt": "p"}, wrong_type("prompt", "an object", "a string")),
    ({"prompt": {}}, missing("prompt.id")),
    ({"prompt": {"id": None}}, wrong_type("prompt.id", "a string", "null")),
    ({"moderation": True}, wrong_type("moderation", "an object", "a boolean")),
    ({"include": "x"}, wrong_type("include", "an array", "a string")),
    ({"include": ["nope"]}, wrong_value("include[0]", "nope", INCLUDES)),
    ({"include": ["reasoning.encrypted_content", 1]}, wrong_type("include[1]", "a string", "an integer")),
    ({"tools": {}}, wrong_type("tools", "an array", "an object")),
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
    ({"tool_choice": 1}, wrong_type("tool_choice", "one of a string or object", "an integer")),
    ({"tool_choice": "any"}, wrong_value("tool_choice", "any", "'none', 'auto', and 'required'")),
    ({"tool_choice": {"name": "f"}}, missing("tool_choice.type")),
    ({"tool_choice": {"type": 1}}, wrong_type("tool_choice.type", "a string", "an integer")),
    ({"metadata": []}, wrong_type("metadata", "an object", "an array")),
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
    ({"background": True}, not_yet("background")),
    ({"background_options": 1}, wrong_type("background_options", "an object", "an integer")),
    ({"max_output_tokens": 15}, below("max_output_tokens", "integer", 16, 15)),
    ({"max_output_tokens": 16.0}, wrong_type("max_output_tokens", "an integer", "a decimal")),
    ({"max_output_tokens": True}, wrong_type("max_output_tokens", "an integer", "a boolean")),
    ({"max_tool_calls": 0}, below("max_tool_calls", "integer", 1, 0)),
    ({"reasoning": "high"}, wrong_type("reasoning", "an object", "a string")),
    ({"reasoning": {"effort": "huge"}}, wrong_value("reasoning.effort", "huge", EFFORTS)),
    ({"reasoning": {"effort": 3}}, wrong_type("reasoning.effort", "a string", "an integer")),
    ({"reasoning": {"summary": "x"}}, wrong_value("reasoning.summary", "x", "'auto', 'concise', and 'detailed'")),
    ({"reasoning": {"context": "x"}}, wrong_value("reasoning.context", "x", "'auto', 'current_turn', and 'all_turns'")),
    ({"reasoning": {"mode": "x"}}, wrong_value("reasoning.mode", "x", "'standard' and 'pro'")),
    ({"user": 1}, wrong_type("user", "a string", "an integer")),
    ({"safety_identifier": "s" * 129}, too_long("safety_identifier", 128)),
    ({"prompt_cache_options": []}, wrong_type("prompt_cache_options", "an object", "an array")),
    ({"prompt_cache_key": 1.5}, wrong_type("prompt_cache_key", "a string", "a decimal")),
    (
        {"prompt_cache_retention": "1h"},
        wrong_value("prompt_cache_retention", "1h", "'in_memory', 'in-memory', and '24h'"),
    ),
    ({"truncation": "x" * 300}, wrong_value("truncation", "x" * 100, "'auto' and 'disabled'")),
    ({"instructions": ["be", "kind"]}, wrong_type("instructions", "a string", "an array")),
    ({"store": "false"}, wrong_type("store", "a boolean", "a string")),
    ({"service_tier": "gold"}, wrong_value("service_tier", "gold", TIERS)),
    ({"top_logprobs": -1}, below("top_logprobs", "integer", 0, -1)),
    ({"top_logprobs": 21}, above("top_logprobs", "integer", 20, 21)),
    ({"context_management": {}}, wrong_type("context_management", "an array", "an object")),
    ({"context_management": []}, empty("context_management", "an", "array")),
    ({"context_management": [{}]}, missing("context_management[0].type")),
    (
        {"context_management": [{"type": "compaction", "compact_threshold": 999}]},
        below("context_management[0].compact_threshold", "integer", 1000, 999),
    ),
    ({"access_programs": 1}, wrong_type("access_programs", "an object", "an integer")),
    ({"image": "x"}, wrong_type("image", "an object", "a string")),
]

PARTS = "one of a string or array of objects"
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
    (message(role=None), wrong_type("input[0].role", "a string", "null")),
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
    (
        {"type": "function_call", "call_id": "c" * 65, "name": "f", "arguments": "{}"},
        too_long("input[0].call_id", 64),
    ),
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


RULES = [
    *PRESENCE,
    *[(valid(**fields), expected) for fields, expected in FIELDS],
    *[(valid(input=[item]), expected) for item, expected in ITEMS],
]


@pytest.mark.parametrize(
    ("fields", "expected"),
    RULES,
    ids=[f"{number} {expected.param} {expected.code}" for number, (_, expected) in enumerate(RULES)],
)
def test_a_broken_rule_is_named_in_openais_words(fields: dict[str, Any], expected: Refused) -> None:
    error = refusal(fields)
    assert (error.code, error.param, error.message) == expected


def test_the_index_of_the_faulty_item_is_named() -> None:
    assert refusal(valid(input=[message(), message(), message(), 1])).param == "input[3]"


@pytest.mark.parametrize(
    "digits", ["18446744073709551616", "12345678901234567890123", "1e3", "1.5"], ids=lambda digits: digits
)
def test_a_number_that_is_no_64_bit_integer_is_a_decimal(digits: str) -> None:
    raw = b'{"model":"m","input":"hi","max_output_tokens":' + digits.encode() + b"}"
    with pytest.raises(InvalidRequestError, match="expected an integer, but got a decimal instead"):
        parse_create_request(raw, MAX_DEPTH)


ORDER = [
    "model",
    "input",
    "previous_response_id",
    "conversation",
    "prompt",
    "moderation",
    "include",
    "tools",
    "tool_choice",
    "metadata",
    "text",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "parallel_tool_calls",
    "stream",
    "stream_options",
    "background",
    "background_options",
    "max_output_tokens",
    "max_tool_calls",
    "reasoning",
    "user",
    "safety_identifier",
    "prompt_cache_options",
    "prompt_cache_key",
    "prompt_cache_retention",
    "truncation",
    "instructions",
    "store",
    "service_tier",
    "top_logprobs",
    "context_management",
    "access_programs",
    "image",
]


def test_faults_are_reported_in_openais_order_whatever_the_order_of_the_body() -> None:
    # No field takes 7.5 except the numbers, and for those it is out of range.
    faults: dict[str, Any] = dict.fromkeys(reversed(ORDER), 7.5)
    for name in ORDER:
        assert refusal(faults).param == name
        faults[name] = {"model": "m", "input": "hi"}.get(name)
    assert parse(faults).model == "m"


def test_a_missing_model_comes_before_a_missing_input_and_both_before_any_field() -> None:
    assert refusal({"temperature": 9}).param == "model"
    assert refusal({"model": 5, "temperature": 9}).param == "input"
    assert refusal({"model": 5, "input": 5, "temperature": 9}).param == "model"


def test_fields_come_before_exclusivity_and_exclusivity_before_what_is_not_supported() -> None:
    both = {"previous_response_id": "resp_1", "conversation": "conv_1", "background": True, "input": []}
    assert refusal(valid(**both, image=1)).param == "image"
    assert refusal(valid(**both)).code == "mutually_exclusive_parameters"
    assert refusal(valid(**both | {"previous_response_id": None})).param == "conversation"
    assert refusal(valid(input=[], background=True)).param == "background"


def test_the_first_faulty_member_of_an_item_is_named() -> None:
    assert refusal(valid(input=[{"type": "function_call", "id": 1}])).param == "input[0].id"
    assert refusal(valid(input=[{"role": "tool"}])).param == "input[0].role"


@pytest.mark.parametrize("name", ORDER[2:])
def test_null_means_absent_for_every_optional_field(name: str) -> None:
    assert parse(valid(**{name: None})).input == "hi"


@pytest.mark.parametrize(
    "fields",
    [
        {"anything": {"new": [1, 2.50, None]}},
        {"temprature": 99},
        {"messages": "ignored while there is an input"},
        {"generate": False, "stream_id": "s"},
        {"tools": [{"type": "hologram", "name": 5}]},
        {"tools": [{"type": "function", "name": "f", "color": "red", "parameters": None}]},
        {"tools": [{"type": "namespace"}]},
        {"tool_choice": {"type": "hologram"}},
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
        {"text": {"format": {"type": "text", "color": "red"}, "tone": 1}},
        {"text": {"format": None, "verbosity": None}},
        {"reasoning": {"effort": None, "generate_summary": "auto"}},
        {"stream_options": {"include_usage": True}},
        {"context_management": [{"type": "hologram"}]},
        {"prompt": {"id": "p", "version": "2", "variables": {"a": 1}}},
        {"conversation": None, "background": False},
        {"input": [{"type": "hologram", "content": 5}]},
        {"input": [message(content=[{"type": "hologram", "text": 5}], color="red", phase="final_answer")]},
        {"input": [message(role="assistant", content=[{"type": "refusal", "refusal": "no"}])]},
        {"input": [message(role="assistant", content="plain")]},
        {"input": [message(type="message", id=None, content=[{"type": "input_text", "text": "hi"}])]},
        {"input": [message(type=None, content=[])]},
        {"input": [{"id": "msg_1"}]},
        {"input": [{"type": None, "id": "msg_1"}]},
        {"input": [{"type": "reasoning", "summary": [], "id": "rs_1"}]},
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "async": True}]},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image"}]}]},
        {"input": [{"type": "custom_tool_call", "call_id": "c", "name": "f", "input": ""}]},
        {"input": [{"type": "custom_tool_call_output", "call_id": "c", "output": "x"}]},
        {"input": [], "previous_response_id": "resp_1"},
        {"input": "", "prompt": {"id": "p"}},
    ],
    ids=lambda fields: str(fields)[:80],
)
def test_what_we_do_not_know_passes_untouched(fields: dict[str, Any]) -> None:
    sent = valid(**fields)
    request = parse(sent)
    assert request.fields == sent
    assert {name: orjson.loads(value) for name, value in request.members.items()} == sent


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0, "top_p": 1, "presence_penalty": -2, "frequency_penalty": 2.0, "top_logprobs": 20},
        {"temperature": 2, "top_p": 0.0, "max_output_tokens": 16, "max_tool_calls": 1, "top_logprobs": 0},
        {"max_output_tokens": 2**64 - 1},
        {"metadata": {"k" * 64: "v" * 512} | {str(number): "" for number in range(15)}},
        {"tools": [{"type": "function", "name": "f" * 128}, {"type": "namespace", "name": "n" * 64}]},
        {"text": {"format": {"type": "json_schema", "name": "n" * 64, "schema": {}, "strict": None}}},
        {"safety_identifier": "s" * 128, "prompt_cache_retention": "in-memory", "service_tier": "ultrafast"},
        {"context_management": [{"type": "compaction", "compact_threshold": 1000}]},
        {"previous_response_id": "r" * 512, "include": [], "tools": []},
        {"input": "\U0001f600" * 64, "user": "u" * 1000},
        {"input": [{"type": "item_reference", "id": "i" * 512}]},
    ],
    ids=lambda fields: str(fields)[:80],
)
def test_a_value_on_the_bound_is_accepted(fields: dict[str, Any]) -> None:
    assert parse(valid(**fields)).model == "m"


def test_a_request_keeps_the_bytes_it_came_in() -> None:
    raw = b' {"model":"m", "input" : [ {"role":"user","content":"\\u00e9"} ],"temperature":1.50,"x":1e5,"x":1E5} '
    request = parse_create_request(raw, MAX_DEPTH)
    assert request.raw is raw
    assert request.members == {
        "model": b'"m"',
        "input": b'[ {"role":"user","content":"\\u00e9"} ]',
        "temperature": b"1.50",
        "x": b"1E5",
    }
    assert request.input == [{"role": "user", "content": "é"}]


def test_of_a_repeated_key_the_last_decides() -> None:
    raw = b'{"model":"m","input":"hi","store":true,"store":false,"temperature":9,"temperature":1}'
    assert parse_create_request(raw, MAX_DEPTH).store is False


@pytest.mark.parametrize(
    ("fields", "store", "stream", "previous_response_id"),
    [
        ({}, True, False, None),
        ({"store": None, "stream": None, "previous_response_id": None}, True, False, None),
        ({"store": True, "stream": False}, True, False, None),
        ({"store": False, "stream": True, "previous_response_id": "resp_1"}, False, True, "resp_1"),
    ],
)
def test_defaults_are_openais(
    fields: dict[str, Any], store: bool, stream: bool, previous_response_id: str | None
) -> None:
    request = parse(valid(**fields))
    assert (request.store, request.stream, request.previous_response_id) == (store, stream, previous_response_id)


def test_with_a_prompt_the_input_may_be_absent() -> None:
    assert parse({"model": "m", "prompt": {"id": "p"}}).input is None


def test_a_body_nested_too_deep_is_refused_before_its_fields_are_looked_at() -> None:
    with pytest.raises(InvalidRequestError, match="nested too deeply: at most 2 levels"):
        parse_create_request(orjson.dumps({"input": [{"content": []}]}), 2)


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


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
KEYS = st.sampled_from(
    ["type", "id", "role", "content", "name", "call_id", "output", "arguments", "input", "summary", "format", "schema"]
)
WORDS = st.sampled_from(
    [
        "message",
        "assistant",
        "input_text",
        "reasoning",
        "item_reference",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "function",
        "custom",
        "namespace",
        "json_schema",
    ]
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXT, inner, max_size=6),
    max_leaves=15,
)


def outcome(raw: bytes) -> CreateRequest | InvalidRequestError:
    try:
        return parse_create_request(raw, MAX_DEPTH)
    except InvalidRequestError as error:
        return error


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(ORDER), ANYTHING), st.booleans())
def test_any_value_in_any_field_is_accepted_or_refused_and_nothing_else(fields: dict[str, Any], complete: bool) -> None:
    raw = orjson.dumps(valid() | fields if complete else fields)
    result = outcome(raw)
    if isinstance(result, CreateRequest):
        assert result.raw == raw
        assert result.fields == orjson.loads(raw)
    else:
        answer = orjson.loads(result.body())["error"]
        assert result.status == 400
        assert set(answer) == {"message", "type", "param", "code"}
        assert len(answer["message"]) < 1_000


@settings(deadline=None)
@given(st.lists(st.dictionaries(KEYS, ANYTHING | WORDS), min_size=1))
def test_any_item_is_accepted_or_refused_and_nothing_else(items: list[Any]) -> None:
    result = outcome(orjson.dumps(valid(input=items)))
    if isinstance(result, CreateRequest):
        assert all(item_type(item) is not None for item in items)
    else:
        assert result.param is not None
        assert result.param.startswith("input[")
