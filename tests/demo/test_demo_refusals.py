from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from app.demo.create_request import refuse_state
from app.demo.endpoint import answer
from app.errors import InvalidRequestError
from app.wire.requests.create import parse_create_request

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
    "body",
    [
        b"{",
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b'{"model":"demo"}',
        b'{"model":"demo","input":[]}',
        b'{"model":"demo","input":[{"role":"robot","content":"x"}]}',
        b'{"model":"demo","input":"x","temperature":9}',
    ],
    ids=["cut", "deep", "missing", "empty", "item", "parameter"],
)
async def test_a_body_that_breaks_the_apis_own_rules_is_refused_in_its_words(body: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_create_request(body, 250)
    assert await _error("POST", "/responses", body) == (400, orjson.loads(caught.value.body()))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_body_is_read_as_deep_as_it_can_be_written(stream: bool) -> None:
    async def status(depth: int) -> int:
        # The body, the tools and the tool are the first three levels.
        inner = depth - 3
        tool = b'{"type":"function","name":"f","parameters":' + b'{"a":' * inner + b"1" + b"}" * inner + b"}"
        asked = b'{"model":"demo","store":false,"input":"x","stream":%s,' % orjson.dumps(stream)
        got = await answer("POST", "/responses", asked + b'"tools":[' + tool + b"]}")
        assert b"".join([chunk async for chunk in got.chunks])
        return got.status

    assert [await status(250), await status(251)] == [200, 400]


async def test_an_unknown_model_is_named(refuse: Refuse) -> None:
    _, error = await refuse(model="x")
    assert error["message"] == "The requested model 'x' does not exist."


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


@pytest.mark.parametrize("body", [{"conversation": "conv_1"}, {"conversation": {"id": "c"}}, {"background": True}])
def test_state_is_refused_here_even_where_the_api_would_allow_it(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="is not supported with this model, which keeps no state") as caught:
        refuse_state({"model": "demo", "input": "x", "store": False, **body})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", *body)


async def test_a_call_that_would_be_stored_is_told_what_to_send(refuse: Refuse) -> None:
    _, error = await refuse(store=None)
    assert error["message"] == (
        "Unsupported parameter: 'store' is not supported with this model, which keeps no state. Send 'store': false."
    )


@pytest.mark.parametrize("given", [{}, {"input": "x"}])
async def test_a_stored_prompt_is_not_found(given: dict[str, Any]) -> None:
    body = {"model": "demo", "store": False, "prompt": {"id": "pmpt_1"}, **given}
    status, answered = await _error("POST", "/responses", orjson.dumps(body))
    assert (status, answered["error"]["message"]) == (404, "Prompt with id 'pmpt_1' not found.")


@pytest.mark.parametrize(
    "reference", [{"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}, {"type": None, "id": "msg_1"}]
)
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


@pytest.mark.parametrize(
    "items",
    [
        [THOUGHT, THOUGHT, SAID],
        [{"type": "reasoning", "summary": []}, CALL, OUTPUT],
        [THOUGHT, {"type": "novelty", "role": ["any"]}],
    ],
)
async def test_reasoning_before_its_own_item_is_accepted(items: list[Any]) -> None:
    body = orjson.dumps({"model": "demo", "store": False, "input": items})
    assert (await answer("POST", "/responses", body)).status == 200


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": "x"}]}], "input[0].content[0].type"),
        ([SAID, {"role": "assistant", "content": [{"type": "text", "text": "x"}]}], "input[1].content[0].type"),
        ([CALL, {**OUTPUT, "output": [{"type": "input_text", "text": "x"}, {"type": "x"}]}], "input[1].output[1].type"),
    ],
)
async def test_a_part_that_could_not_be_read_is_refused_where_it_is(
    items: list[Any], param: str, refuse: Refuse
) -> None:
    status, error = await refuse(items)
    assert (status, error["code"], error["param"]) == (400, "invalid_value", param)


ALLOWED = {"type": "allowed_tools", "mode": "auto", "tools": []}


@pytest.mark.parametrize(
    ("parameters", "code", "param"),
    [
        ({"tools": [{"type": "namespace", "tools": []}]}, "missing_required_parameter", "tools[0].name"),
        ({"tools": [{"type": "namespace", "name": "n"}]}, "missing_required_parameter", "tools[0].tools"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [5]}]}, "invalid_type", "tools[0].tools[0]"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [FUNCTION, {"type": "custom"}]}]},
            "missing_required_parameter",
            "tools[0].tools[1].name",
        ),
        ({"tools": [{**FUNCTION, "parameters": "x"}]}, "invalid_type", "tools[0].parameters"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "missing_required_parameter", "tool_choice.tools"),
        ({"tool_choice": {**ALLOWED, "tools": ["f"]}}, "invalid_type", "tool_choice.tools[0]"),
        ({"tool_choice": {**ALLOWED, "mode": "none"}}, "invalid_value", "tool_choice.mode"),
        ({"tool_choice": "required"}, None, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "g"}, "tools": [FUNCTION]}, None, "tool_choice"),
        ({"tool_choice": {"type": "custom", "name": "f"}, "tools": [FUNCTION]}, None, "tool_choice"),
    ],
)
async def test_a_tool_that_could_not_be_called_is_refused_by_name(
    parameters: dict[str, Any], code: str | None, param: str, refuse: Refuse
) -> None:
    status, error = await refuse(**parameters)
    assert (status, error["code"], error["param"]) == (400, code, param)


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
