"""A request as a whole: the order of its checks, what passes unchecked, and the bytes that are kept."""

from typing import Any

import orjson
import pytest

from app.errors import InvalidRequestError
from app.wire.requests.create import parse_create_request
from tests.wire.refusals import MAX_DEPTH, ORDER, message, parse, refusal, valid


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


def test_fields_come_before_exclusivity_and_exclusivity_before_an_empty_input() -> None:
    both = {"previous_response_id": "resp_1", "conversation": "conv_1", "input": []}
    assert refusal(valid(**both, image=1)).param == "image"
    assert refusal(valid(**both)).code == "mutually_exclusive_parameters"
    assert refusal(valid(input=[])).code == "missing_required_parameter"


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
        {"conversation": "conv_1", "input": []},
        {"conversation": {"id": "conv_1"}, "input": ""},
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
    assert {name: orjson.loads(bytes(value)) for name, value in request.members.items()} == sent


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
    assert {name: bytes(value) for name, value in request.members.items()} == {
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


def test_a_prompt_may_bring_the_model_and_the_input() -> None:
    assert parse({"model": "m", "prompt": {"id": "p"}}).input is None
    assert parse({"prompt": {"id": "p"}}).model == ""
    assert parse({"model": None, "input": "hi", "prompt": {"id": "p"}}).model == ""


def test_a_body_nested_too_deep_is_refused_before_its_fields_are_looked_at() -> None:
    with pytest.raises(InvalidRequestError, match="nested too deeply: at most 2 levels"):
        parse_create_request(orjson.dumps({"input": [{"content": []}]}), 2)
