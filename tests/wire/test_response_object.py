from typing import Any

import orjson
import pytest
from openai.types.responses import Response

from app.wire.responses import response_object

RESPONSE = (
    b'{"id":"resp_1","status":"completed","model":"demo","output":[{"type":"message"}],"usage":{"input_tokens":3}}'
)


def make(**members: Any) -> bytes:
    return orjson.dumps({"id": "resp_1", **members})


def test_the_facts_of_a_response_are_read() -> None:
    facts = response_object.read(RESPONSE)
    assert facts is not None
    assert (facts.id, facts.status, facts.model) == ("resp_1", "completed", "demo")
    assert facts.output == [b'{"type":"message"}']
    assert facts.usage == {"input_tokens": 3}


def test_output_items_keep_their_bytes() -> None:
    item = b'{ "type" : "message", "n": 1.0e3, "s": "\\u0041" }'
    facts = response_object.read(b'{"id":"r","output":[ %b , {"id":"b"}]}' % item)
    assert facts is not None
    assert facts.output == [item, b'{"id":"b"}']


@pytest.mark.parametrize(
    ("members", "status", "model", "usage"),
    [
        ({}, "completed", "", None),
        ({"status": None, "model": None, "usage": None, "output": None}, "completed", "", None),
        ({"status": "incomplete", "usage": "many"}, "incomplete", "", None),
        ({"status": 5, "model": 5, "usage": [1]}, "completed", "5", None),
        ({"status": "finished", "error": {"code": "x"}}, "failed", "", None),
        ({"status": "finished", "incomplete_details": {"reason": "x"}}, "incomplete", "", None),
        ({"output": [], "usage": {}}, "completed", "", {}),
    ],
)
def test_odd_members_are_read_as_unknown(
    members: dict[str, Any], status: str, model: str, usage: dict[str, Any] | None
) -> None:
    facts = response_object.read(make(**members))
    assert facts is not None
    assert (facts.status, facts.model, facts.usage, facts.output) == (status, model, usage, [])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"resp_1"',
        b"<html>",
        b'{"id":null}',
        b'{"id":""}',
        b'{"id":7}',
        b'{"id":"r","temperature":NaN}',
        b'{"id":"r","output":{"type":"message"}}',
        b'{"id":"r","output":"text"}',
        b'{"id":"r","output":[1]}',
        b'{"id":"r","output":[{"type":"message"},null]}',
        b'{"id":"r","output":[{"type":7}]}',
        b'{"id":"r","output":[{"type":[]}]}',
        b'{"id":"r"} {"id":"r"}',
        pytest.param(b'{"id":"r","metadata":' + b"[" * 1010 + b"]" * 1010 + b"}", id="too deep"),
    ],
)
def test_what_is_no_response_object_is_not_read(raw: bytes) -> None:
    assert response_object.read(raw) is None


def test_of_a_repeated_key_the_last_counts_everywhere() -> None:
    raw = b'{"id":"a","output":[{"type":"x"}],"id":"b","output":[{"type":"y"}],"store":true,"store":false}'
    facts = response_object.read(raw)
    assert facts is not None
    assert (facts.id, facts.output) == ("b", [b'{"type":"y"}'])
    assert orjson.loads(facts.as_asked(store=True, previous_response_id=None))["store"] is True


def test_the_state_members_say_what_the_client_asked_and_nothing_else_changes() -> None:
    values = b'"temperature": 1.0,"big":12345678901234567890123,"text":"\\u00e9\\/","output":[ { } ]'
    raw = (
        b'{"id":"r","store":false,"previous_response_id":null,"background":null,"conversation":{"id":"c"},%b}' % values
    )
    facts = response_object.read(raw)
    assert facts is not None
    asked = facts.as_asked(store=True, previous_response_id='resp_"0')
    read = orjson.loads(asked)
    assert (read["store"], read["previous_response_id"]) == (True, 'resp_"0')
    assert (read["conversation"], read["background"]) == (None, False)
    for value in (b'"temperature":1.0', b'"big":12345678901234567890123', b'"text":"\\u00e9\\/"', b'"output":[ { } ]'):
        assert value in asked


def test_members_that_upstream_left_out_are_added() -> None:
    facts = response_object.read(b'{"id":"r"}')
    assert facts is not None
    read = orjson.loads(facts.as_asked(store=False, previous_response_id=None))
    assert read == {"id": "r", "store": False, "previous_response_id": None, "conversation": None, "background": False}


@pytest.mark.parametrize("end", [b"}", b"\n}\n"])
def test_an_answer_that_says_already_what_was_asked_keeps_all_its_bytes(end: bytes) -> None:
    raw = b'{ "id": "r", "store": false,\n "previous_response_id": null, "background": false, "temperature": 1.0'
    whole = raw + b', "conversation": null' + end
    facts = response_object.read(whole)
    assert facts is not None
    assert facts.as_asked(store=False, previous_response_id=None) == whole
    facts = response_object.read(raw + end)
    assert facts is not None
    asked = facts.as_asked(store=False, previous_response_id=None)
    assert asked.startswith(raw)
    assert orjson.loads(asked) == {**orjson.loads(raw + end), "conversation": None}


@pytest.mark.parametrize(
    "asked",
    [
        {"store": True},
        {"previous_response_id": "resp_0"},
        {"conversation_id": "conv_1"},
        {"background": True},
        {"background": True, "background_id": "resp_b"},
    ],
    ids=str,
)
def test_an_answer_that_says_something_else_is_told_what_was_asked(asked: dict[str, Any]) -> None:
    state: dict[str, Any] = {"store": False, "previous_response_id": None, "background": False, "conversation": None}
    facts = response_object.read(make(**state))
    assert facts is not None
    read = orjson.loads(facts.as_asked(**{"store": False, "previous_response_id": None, **asked}))
    named = asked.pop("conversation_id", None)
    if "background_id" in asked:
        state["status"] = "completed"
    expected = {"id": asked.pop("background_id", "resp_1"), **state, **asked}
    assert read == expected | {"conversation": {"id": named} if named else None}


@pytest.mark.parametrize(
    "state",
    [
        {"store": True},
        {"store": 0},
        {"store": None},
        {"background": True},
        {"background": 0},
        {"previous_response_id": "resp_0"},
        {"conversation": {"id": "conv_1"}},
    ],
    ids=str,
)
def test_what_upstream_says_of_another_state_is_not_passed_on(state: dict[str, Any]) -> None:
    stateless = {"store": False, "previous_response_id": None, "background": False, "conversation": None}
    facts = response_object.read(make(**{**stateless, **state}))
    assert facts is not None
    read = orjson.loads(facts.as_asked(store=False, previous_response_id=None))
    assert {name: read[name] for name in stateless} == stateless
    assert read["store"] is read["background"] is False


def test_an_ended_response_has_the_items_finished_so_far() -> None:
    error = {"code": "server_error", "message": "Gone."}
    started = b'{"id":"r","status":"in_progress","output":[],"error":null,"usage":null,"temperature":1.0}'
    ended = response_object.ended(started, "failed", [b'{"a": 1}', b"{}"], error)
    assert (
        orjson.loads(ended).items()
        >= {
            "id": "r",
            "status": "failed",
            "output": [{"a": 1}, {}],
            "error": error,
            "usage": None,
            "temperature": 1.0,
        }.items()
    )
    assert orjson.loads(response_object.ended(started, "cancelled", []))["error"] is None


def test_a_response_that_was_never_announced_is_one_to_the_sdk() -> None:
    asked: dict[str, Any] = {
        "model": "demo",
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "tool_choice": "required",
        "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}],
        "instructions": "Be brief.",
        "temperature": 0.5,
        "reasoning": {"effort": "low"},
        "max_output_tokens": 20,
    }
    made = Response.model_validate_json(response_object.placeholder_response(asked))
    assert made.id.startswith("resp_")
    assert made.object == "response"
    assert made.status == "in_progress"
    echoed = made.model_dump(include=set(asked), exclude_unset=True)
    assert echoed["tools"][0]["name"] == "f"
    assert {name: echoed[name] for name in asked if name not in {"tools", "reasoning"}} == {
        name: value for name, value in asked.items() if name not in {"tools", "reasoning"}
    }
    assert made.reasoning is not None
    assert made.reasoning.effort == "low"


def test_what_a_request_leaves_out_has_the_apis_defaults() -> None:
    read = orjson.loads(
        response_object.placeholder_response({"model": "demo", "metadata": None, "tools": None, "tool_choice": None})
    )
    assert (read["metadata"], read["tools"], read["tool_choice"], read["parallel_tool_calls"]) == ({}, [], "auto", True)
    assert read["temperature"] is None
    assert Response.model_validate(read).output == []
    assert response_object.read(orjson.dumps(read)) is not None


@pytest.mark.parametrize("raw", [b'{"id":"r","model":"a\xff"}', b'{"id":"r","model":"a\\ud800"}'])
def test_half_a_character_is_read_as_a_lost_one(raw: bytes) -> None:
    facts = response_object.read(raw)
    assert facts is not None
    assert facts.model == orjson.loads(facts.raw)["model"] == "a\ufffd"


def test_a_response_under_another_id_says_the_same() -> None:
    assert orjson.loads(response_object.renamed(b'{"id":"a","model":"m","x":1.50}', "b")) == {
        "id": "b",
        "model": "m",
        "x": 1.5,
    }
    assert response_object.renamed(b"[]", "b") == b"[]"
