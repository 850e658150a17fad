from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from app.demo.answer import answer

Refuse = Callable[..., Awaitable[tuple[int, dict[str, Any]]]]

SAID = {"role": "assistant", "content": "Yes"}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "x"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "demo-enc:eA=="}
FUNCTION = {"type": "function", "name": "f", "parameters": {}}


async def _error(method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    got = await answer(method, path, body)
    return got.status, orjson.loads(b"".join([chunk async for chunk in got.chunks]))


async def test_the_one_model_is_listed_and_shown() -> None:
    status, listed = await _error("GET", "/models")
    assert (status, listed["object"], [model["id"] for model in listed["data"]]) == (200, "list", ["demo"])
    assert await _error("GET", "/models/demo") == (200, listed["data"][0])
    assert listed["data"][0]["owned_by"] == "antiphon"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/responses"), ("POST", "/models"), ("POST", "/responses/compact"), ("GET", "/")]
)
async def test_any_other_url_is_not_found(method: str, path: str) -> None:
    status, body = await _error(method, path)
    assert status == 404
    assert body["error"]["message"] == f"Invalid URL ({method} /v1{path})"


async def test_another_model_is_not_found() -> None:
    status, body = await _error("GET", "/models/other")
    assert (status, body["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"a":' * 300 + b"1" + b"}" * 300, b'{"model":NaN}'], ids=["empty", "cut", "deep", "nan"]
)
async def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    status, answered = await _error("POST", "/responses", body)
    assert status == 400
    assert answered["error"]["message"].startswith("We could not parse the JSON body of your request.")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "model"),
        ({"model": "demo"}, "missing_required_parameter", "input"),
        ({"model": None, "input": "x"}, "invalid_type", "model"),
        ({"model": "demo", "input": None}, "invalid_type", "input"),
        ({"model": "", "input": "x"}, "model_not_found", "model"),
        ([], "invalid_type", "body"),
        ({"model": "demo", "input": "x"}, "unsupported_parameter", "store"),
    ],
)
async def test_what_has_to_be_there_is_asked_for(body: Any, code: str, param: str) -> None:
    status, answered = await _error("POST", "/responses", orjson.dumps(body))
    assert (status, answered["error"]["code"], answered["error"]["param"]) == (400, code, param)


async def test_an_unknown_model_is_named(refuse: Refuse) -> None:
    _, error = await refuse(model="x")
    assert error["message"] == "The requested model 'x' does not exist."


@pytest.mark.parametrize("given", ["", []])
async def test_an_empty_input_is_refused(given: Any, refuse: Refuse) -> None:
    status, error = await refuse(given)
    assert (status, error["code"], error["param"]) == (400, "missing_required_parameter", None)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", {"id": "conv_1"}),
        ("background", True),
        ("store", True),
        ("store", None),
    ],
)
async def test_state_that_could_not_be_kept_is_refused(param: str, value: Any, refuse: Refuse) -> None:
    status, error = await refuse(**{param: value})
    assert (status, error["code"], error["param"]) == (400, "unsupported_parameter", param)


async def test_a_stored_prompt_is_not_found(refuse: Refuse) -> None:
    status, error = await refuse(prompt={"id": "pmpt_1"})
    assert (status, error["message"]) == (404, "Prompt with id 'pmpt_1' not found.")


@pytest.mark.parametrize("reference", [{"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}])
async def test_a_reference_is_not_found(reference: dict[str, Any], refuse: Refuse) -> None:
    status, error = await refuse([reference])
    assert (status, error["message"]) == (404, "Item with id 'msg_1' not found.")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([OUTPUT], "No tool call found for function call output with call_id c1."),
        ([OUTPUT, CALL], "No tool call found for function call output with call_id c1."),
        ([CALL, {**OUTPUT, "call_id": "c2"}], "No tool call found for function call output with call_id c2."),
        ([CALL], "No tool output found for function call c1."),
        (
            [{"type": "custom_tool_call", "call_id": "c1", "name": "f", "input": ""}, SAID],
            "No tool output found for custom tool call c1.",
        ),
        (
            [CALL, OUTPUT, {**OUTPUT, "type": "custom_tool_call_output"}],
            "No tool call found for custom tool call output with call_id c1.",
        ),
        ([THOUGHT], "Item 'rs_1' of type 'reasoning' was provided without its required following item."),
        (
            [THOUGHT, {"role": "user", "content": "x"}, SAID],
            "Item 'rs_1' of type 'reasoning' was provided without its required following item.",
        ),
        (
            [CALL, {**THOUGHT, "summary": []}, OUTPUT],
            "Item 'rs_1' of type 'reasoning' was provided without its required following item.",
        ),
    ],
)
async def test_a_dangling_item_is_refused(items: list[Any], message: str, refuse: Refuse) -> None:
    status, error = await refuse(items)
    assert (status, error["message"], error["param"], error["code"]) == (400, message, "input", None)


@pytest.mark.parametrize("foreign", ["gAAAA", "", 7])
async def test_foreign_reasoning_is_refused(foreign: Any, refuse: Refuse) -> None:
    status, error = await refuse([{**THOUGHT, "encrypted_content": foreign}, SAID])
    assert (status, error["code"]) == (400, "invalid_encrypted_content")


async def test_reasoning_that_only_names_itself_is_not_found(refuse: Refuse) -> None:
    status, error = await refuse([{**THOUGHT, "encrypted_content": None}, SAID])
    assert (status, error["code"]) == (404, None)
    assert error["message"].startswith("Item with id 'rs_1' not found. Items are not persisted")


@pytest.mark.parametrize("items", [[THOUGHT, THOUGHT, SAID], [{"type": "reasoning", "summary": []}, CALL, OUTPUT]])
async def test_reasoning_before_its_own_item_is_accepted(items: list[Any]) -> None:
    body = orjson.dumps({"model": "demo", "store": False, "input": items})
    assert (await answer("POST", "/responses", body)).status == 200


@pytest.mark.parametrize(
    ("given", "code", "param"),
    [
        (5, "invalid_type", "input"),
        (["x"], "invalid_type", "input[0]"),
        ([{"type": 5}], "invalid_type", "input[0].type"),
        ([{"type": "message", "content": "x"}], "missing_required_parameter", "input[0].role"),
        ([{"role": "user"}], "missing_required_parameter", "input[0].content"),
        ([{"role": "robot", "content": "x"}], "invalid_value", "input[0].role"),
        ([{"role": "user", "content": 5}], "invalid_type", "input[0].content"),
        ([{"role": "user", "content": ["x"]}], "invalid_type", "input[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text", "text": "x"}]}], "invalid_value", "input[0].content[0].type"),
        (
            [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}],
            "invalid_value",
            "input[0].content[0].type",
        ),
        ([{**CALL, "call_id": None}], "missing_required_parameter", "input[0].call_id"),
        ([{**CALL, "arguments": {}}], "invalid_type", "input[0].arguments"),
        ([CALL, {**OUTPUT, "output": {}}], "invalid_type", "input[1].output"),
        ([{"type": "reasoning", "id": "rs_1"}, SAID], "missing_required_parameter", "input[0].summary"),
    ],
)
async def test_a_malformed_item_is_refused_where_it_is(given: Any, code: str, param: str, refuse: Refuse) -> None:
    status, error = await refuse(given)
    assert (status, error["code"], error["param"]) == (400, code, param)


@pytest.mark.parametrize(
    ("parameters", "code", "param"),
    [
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"temperature": True}, "invalid_type", "temperature"),
        ({"temperature": 2.5}, "decimal_above_max_value", "temperature"),
        ({"top_p": -1}, "decimal_below_min_value", "top_p"),
        ({"max_output_tokens": 15}, "integer_below_min_value", "max_output_tokens"),
        ({"max_output_tokens": 16.5}, "invalid_type", "max_output_tokens"),
        ({"top_logprobs": 21}, "integer_above_max_value", "top_logprobs"),
        ({"truncation": "maybe"}, "invalid_value", "truncation"),
        ({"include": ["x"]}, "invalid_value", "include[0]"),
        ({"reasoning": {"effort": "huge"}}, "invalid_value", "reasoning.effort"),
        ({"text": {"format": "json"}}, "invalid_type", "text.format"),
        ({"text": {"format": {}}}, "missing_required_parameter", "text.format.type"),
        ({"text": {"format": {"type": "xml"}}}, "invalid_value", "text.format.type"),
        (
            {"text": {"format": {"type": "json_schema", "name": "n"}}},
            "missing_required_parameter",
            "text.format.schema",
        ),
        ({"tools": {}}, "invalid_type", "tools"),
        ({"tools": ["f"]}, "invalid_type", "tools[0]"),
        ({"tools": [{"name": "f"}]}, "missing_required_parameter", "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "missing_required_parameter", "tools[0].name"),
        ({"tools": [{"type": "function", "name": 5}]}, "invalid_type", "tools[0].name"),
        ({"tools": [{"type": "namespace", "name": "n"}]}, "missing_required_parameter", "tools[0].tools"),
        ({"tool_choice": "always"}, "invalid_value", "tool_choice"),
        ({"tool_choice": 5}, "invalid_type", "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "missing_required_parameter", "tool_choice.tools"),
        ({"tool_choice": {"type": "allowed_tools", "tools": []}}, "invalid_value", "tool_choice.mode"),
        ({"tools": [{**FUNCTION, "parameters": "x"}]}, "invalid_type", "tools[0].parameters"),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": "x"}}},
            "invalid_type",
            "text.format.schema",
        ),
        ({"tool_choice": "required"}, None, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "g"}, "tools": [FUNCTION]}, None, "tool_choice"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(
    parameters: dict[str, Any], code: str | None, param: str, refuse: Refuse
) -> None:
    status, error = await refuse(**parameters)
    assert (status, error["code"], error["param"]) == (400, code, param)


async def test_choices_are_listed_in_words(refuse: Refuse) -> None:
    _, three = await refuse(text={"verbosity": "loud"})
    assert three["message"] == "Invalid value: 'loud'. Supported values are: 'low', 'medium', and 'high'."
    _, two = await refuse(truncation="x")
    assert two["message"] == "Invalid value: 'x'. Supported values are: 'auto' and 'disabled'."
    _, typed = await refuse(metadata=[])
    assert typed["message"] == "Invalid type for 'metadata': expected an object, but got an array instead."


words = st.sampled_from(
    [
        *("message", "function_call", "function_call_output", "reasoning", "user", "assistant", "function", "custom"),
        *("namespace", "web_search", "json_schema", "json_object", "text", "auto", "required", "allowed_tools"),
        *("demo-enc:", "low", "input_text", "output_text", "x", "[fail]"),
    ]
)
keys = st.sampled_from(
    [
        *("type", "role", "content", "call_id", "name", "arguments", "output", "summary", "encrypted_content", "id"),
        *("tools", "parameters", "format", "schema", "effort", "mode", "text", "description", "include_obfuscation"),
    ]
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers(0, 20) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=15,
)
PARAMETERS = (
    *("instructions", "tools", "tool_choice", "text", "reasoning", "include", "metadata", "stream", "stream_options"),
    *("max_output_tokens", "top_logprobs", "service_tier", "prompt", "conversation", "user", "truncation"),
)


@drawn(
    items=st.lists(junk, max_size=3) | words, parameters=st.dictionaries(st.sampled_from(PARAMETERS), junk, max_size=3)
)
async def test_any_json_is_answered_or_refused_in_form(items: Any, parameters: dict[str, Any]) -> None:
    body = {"model": "demo", "store": False, "input": items, **parameters}
    got = await answer("POST", "/responses", orjson.dumps(body))
    assert got.status in {200, 400, 404}
    assert b"".join([chunk async for chunk in got.chunks])
