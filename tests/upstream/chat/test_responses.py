"""A whole completion becomes a response object: its parts, its status, its usage."""

import json
from typing import Any

import orjson
import pytest

from app.settings.upstreams import ChatProfile
from app.upstream.chat.errors import refused
from app.wire.upstream_errors import parse_json_error
from tests.upstream.chat.translated import UPSTREAM, sealed_in, stream_of, whole


def test_the_object_is_complete_and_repeats_the_request() -> None:
    tool = {"type": "function", "name": "f", "parameters": None, "strict": None}
    made = whole({"content": "Yes"}, fields={"instructions": "Be kind.", "tools": [tool], "temperature": 0.5})
    assert (made["object"], made["status"], made["model"], made["created_at"]) == ("response", "completed", "m-1", 5)
    assert (made["instructions"], made["tools"], made["temperature"]) == ("Be kind.", [tool], 0.5)
    assert made["id"].startswith("resp_")
    assert (made["error"], made["incomplete_details"], made["store"]) == (None, None, False)
    [message] = made["output"]
    assert message["id"].startswith("msg_")
    assert message["content"] == [{"type": "output_text", "text": "Yes", "annotations": [], "logprobs": []}]


def test_a_time_or_a_model_that_is_none_is_ours() -> None:
    made = whole({"content": "Yes"}, created="2026-12-01", model=None)
    assert (type(made["created_at"]), made["model"]) == (int, "m")


def test_parts_stand_in_the_order_of_thought_text_and_calls() -> None:
    """Rule 9."""
    call = {"id": "c", "function": {"name": "f", "arguments": ""}}
    message = {"reasoning_content": "Hm.", "content": "Yes", "tool_calls": [call]}
    output = whole(message, "tool_calls")["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]
    assert output[0]["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert output[2]["arguments"] == "{}"


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm."},
        {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm.", "index": 0}]},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                {"type": "text", "text": "A"},
            ]
        },
    ],
)
def test_reasoning_is_read_once_from_any_of_its_fields(message: dict[str, Any]) -> None:
    """Rules 1d and 6: and never in the text."""
    output = whole({"content": "A", **message})["output"]
    assert output[0]["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert output[1]["content"][0]["text"] == "A"


@pytest.mark.parametrize(
    ("shown", "summary", "content"),
    [
        ("summary", [{"type": "summary_text", "text": "Hm."}], None),
        ("text", [], [{"type": "reasoning_text", "text": "Hm."}]),
        ("hidden", [], None),
    ],
)
def test_reasoning_is_shown_as_the_profile_says_and_always_sealed(shown: Any, summary: Any, content: Any) -> None:
    """Rule 14."""
    item = whole({"content": "A", "reasoning": "Hm."}, profile=ChatProfile(reasoning_as=shown))["output"][0]
    assert (item["summary"], item.get("content")) == (summary, content)
    assert sealed_in(item) == {"upstream": UPSTREAM, "text": "Hm.", "field": "reasoning"}


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("eos", "completed", None),
        (None, "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("model_length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
        ("error", "failed", None),
    ],
)
def test_the_status_is_that_of_the_end(reason: str | None, status: str, details: Any) -> None:
    """Rule 41."""
    made = whole({"content": "A"}, reason)
    assert (made["status"], made["incomplete_details"]) == (status, details)
    assert made["output"][0]["status"] == ("completed" if status == "completed" else "incomplete")
    assert (made["error"] is None) == (status != "failed")


def test_a_call_that_was_cut_off_is_incomplete() -> None:
    """Rule 42: nobody runs half of its arguments."""
    calls = [
        {"id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "function": {"name": "f", "arguments": '{"a'}},
    ]
    first, second = whole({"content": None, "tool_calls": calls}, "length")["output"]
    assert (first["status"], second["status"]) == ("completed", "incomplete")
    assert second["arguments"] == '{"a'


def test_a_refusal_is_a_part_of_its_own() -> None:
    made = whole({"content": None, "refusal": "No."})
    assert made["status"] == "completed"
    assert made["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]


def test_annotations_and_log_probabilities_are_passed_on() -> None:
    cited = {"url": "https://x", "title": "X", "start_index": 0, "end_index": 1}
    told = {"content": [{"token": "A", "logprob": -0.1, "bytes": [65], "top_logprobs": []}]}
    completion = {
        "choices": [
            {
                "message": {"content": "A", "annotations": [{"type": "url_citation", "url_citation": cited}]},
                "logprobs": told,
                "finish_reason": "stop",
            }
        ]
    }
    asking = stream_of(ChatProfile(logprobs=True), is_silent=True, top_logprobs=1)
    part = orjson.loads(asking.whole(orjson.dumps(completion)))["output"][0]["content"][0]
    assert part["annotations"] == [{"type": "url_citation", **cited}]
    assert part["logprobs"] == told["content"]


def test_an_answer_without_anything_is_an_empty_message() -> None:
    assert whole({"content": None})["output"][0]["content"][0]["text"] == ""
    assert [item["type"] for item in whole({"reasoning": "Hm."})["output"]] == ["reasoning", "message"]


def error_in(body: Any) -> dict[str, Any]:
    """The error that this body is translated to; it says its status, as the head of the answer is a success's."""
    raw = stream_of(is_silent=True).whole(body if isinstance(body, bytes) else orjson.dumps(body))
    error: dict[str, Any] = orjson.loads(raw)["error"]
    parsed = parse_json_error(raw)
    assert parsed is not None
    assert parsed.status == error["status"]
    return error


@pytest.mark.parametrize(
    "body", [{"id": "x", "choices": []}, {"choices": [None]}, {"choices": {}}, {"id": "x"}, {"choices": ["A"]}]
)
def test_an_answer_without_a_choice_is_a_fault_of_the_server(body: Any) -> None:
    """Rule 46: so that another account can be asked."""
    error = error_in(body)
    assert (error["status"], error["message"]) == (502, "Upstream's completion has no choices.")


@pytest.mark.parametrize("body", [b"<html>", b"{", b'{"choices":' + b"[" * 300 + b"]" * 300 + b"}"])
def test_an_answer_that_cannot_be_read_is_a_fault_of_the_server(body: bytes) -> None:
    error = error_in(body)
    assert (error["status"], error["message"]) == (502, "Upstream's answer is not JSON that can be read.")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"error": {"message": "Down", "code": 503}}, 503, None),
        ({"object": "error", "message": "Down", "code": 503}, 503, None),
        ([{"error": {"message": "Down", "code": 503, "status": "UNAVAILABLE"}}], 503, "UNAVAILABLE"),
        ({"error": {"message": "Down", "code": 429}}, 429, "rate_limit_exceeded"),
        ({"error": {"message": "Down", "code": 429, "type": "invalid_request_error"}}, 429, "rate_limit_exceeded"),
        ({"error": {"message": "Down", "code": 401}}, 401, None),
        ({"error": {"message": "Down", "code": 403}}, 403, None),
        ({"error": {"message": "Down", "code": 402}}, 402, "insufficient_quota"),
        ({"detail": [{"loc": ["body", "x"], "msg": "Down"}]}, 400, None),
        ({"error": "Down"}, 502, None),
    ],
)
def test_an_error_in_place_of_a_completion_keeps_its_status(body: Any, status: int, code: str | None) -> None:
    """Rule 46."""
    error = error_in(body)
    assert (error["message"], error["status"], error["code"]) == ("Down", status, code)


USED = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}


@pytest.mark.parametrize(
    ("said", "cached", "written", "reasoned"),
    [
        (USED, 0, 0, 0),
        ({**USED, "prompt_tokens_details": None, "completion_tokens_details": {}}, 0, 0, 0),
        ({**USED, "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2}}, 3, 2, 0),
        ({**USED, "prompt_cache_hit_tokens": 3}, 3, 0, 0),
        ({**USED, "cached_tokens": 3}, 3, 0, 0),
        ({**USED, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}, 3, 2, 0),
        ({**USED, "completion_tokens_details": {"reasoning_tokens": 2}}, 0, 0, 2),
    ],
)
def test_usage_is_whole_with_integers_everywhere(said: Any, cached: int, written: int, reasoned: int) -> None:
    """Rules 44 and 44c: Codex loses a turn whose counts are missing."""
    assert whole({"content": "A"}, usage=said)["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": reasoned},
        "total_tokens": 14,
    }


def test_input_tokens_include_those_of_a_cache_that_is_counted_beside() -> None:
    """Rule 44c."""
    used = whole({"content": "A"}, usage={"prompt_tokens": 10, "completion_tokens": 4, "cache_read_input_tokens": 90})
    assert used["usage"]["input_tokens"] == 100
    assert used["usage"]["total_tokens"] == 104


NOTHING = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"usage": NOTHING},
        {"usage": NOTHING, "x_groq": {"usage": NOTHING}},
        {"usage": {"total_tokens": 14}},
        {"usage": {"prompt_tokens": -10, "completion_tokens": 4.5}},
        {"usage": {"prompt_tokens": "10", "completion_tokens": True}},
        {"usage": [10, 4]},
    ],
)
def test_usage_that_nobody_told_is_estimated_and_says_so(said: Any) -> None:
    """Rule 44: zeros are told by servers that count nothing."""
    used = whole({"content": "A word or two."}, **said)["usage"]
    assert used["estimated"] is True
    assert used["input_tokens"] > 0
    assert used["output_tokens"] > 0


def test_usage_beside_zeros_is_the_one_that_was_counted() -> None:
    used = whole({"content": "A"}, usage=NOTHING, x_groq={"usage": USED})["usage"]
    assert (used["input_tokens"], used["output_tokens"]) == (10, 4)
    assert "estimated" not in used


@pytest.mark.parametrize("count", [2**53, 2**63, 2**64, 10**30, -1, 4.0, True, "4", None, [4]])
def test_a_count_over_64_bit_or_of_another_type_is_dropped(count: Any) -> None:
    said = {"prompt_tokens": 10, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": count}}
    body = json.dumps({"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}], "usage": said}).encode()
    assert orjson.loads(stream_of(is_silent=True).whole(body))["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 10,
    }


def test_a_cost_is_passed_on_where_it_is_a_number() -> None:
    costs = [whole({"content": "A"}, usage={**USED, "cost": cost})["usage"].get("cost") for cost in (0.5, 1, True, "1")]
    assert costs == [0.5, 1, None, None]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (422, {"detail": [{"loc": ["body", "max_tokens"], "msg": "extra"}]}, (400, None, "max_output_tokens")),
        (400, {"error": {"message": "bad", "param": "messages"}}, (400, None, "input")),
        (400, {"error": {"message": "bad", "param": "tools[0].function.name"}}, (400, None, "tools[0].name")),
        (
            400,
            {"object": "error", "message": "exceeds the available context size"},
            (400, "context_length_exceeded", "input"),
        ),
        (402, {"error": {"message": "Pay", "code": 402}}, (402, "insufficient_quota", None)),
        (429, {"error": {"message": "Insufficient balance"}}, (429, "insufficient_quota", None)),
        (429, {"error": {"message": "Slow", "code": 400}}, (429, "rate_limit_exceeded", None)),
        (500, {"error": {"message": "the prompt is too long"}}, (400, "context_length_exceeded", "input")),
        (413, {"error": {"message": "the prompt is too long"}}, (400, "context_length_exceeded", "input")),
        (422, {"message": "the prompt is too long"}, (400, "context_length_exceeded", "input")),
        (503, {"message": "the context window is gone"}, (503, None, None)),
        (500, [{"error": {"message": "Oops", "code": 500}}], (500, None, None)),
    ],
)
def test_errors_are_openais_with_our_names(
    status: int, body: Any, expected: tuple[int, str | None, str | None]
) -> None:
    """Rule 3: a 400 stays one; and Codex compacts on one code alone."""
    said, raw = refused(status, orjson.dumps(body))
    error = orjson.loads(raw)["error"]
    assert (said, error["code"], error["param"]) == expected
