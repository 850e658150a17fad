import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Ask = Callable[..., Awaitable[dict[str, Any]]]

EVERY_FIELD = {
    "id", "object", "created_at", "completed_at", "status", "error", "incomplete_details", "model", "output",
    "output_text", "instructions", "previous_response_id", "conversation", "store", "background",
    "parallel_tool_calls", "truncation", "tools", "tool_choice", "text", "reasoning", "temperature", "top_p",
    "top_logprobs", "max_output_tokens", "max_tool_calls", "metadata", "service_tier", "user", "safety_identifier",
    "prompt", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "usage", "moderation",
    "input_transformations", "prompt_cache_diagnostics", "tool_usage", "access_programs", "image",
    "presence_penalty", "frequency_penalty", "content_filters",
}  # fmt: skip


async def test_every_field_is_there_with_its_default(ask: Ask) -> None:
    before = int(time.time())
    got = await ask("Hello")
    assert set(got) == EVERY_FIELD
    assert before <= got["created_at"] <= got["completed_at"] <= time.time()
    expected: dict[str, Any] = {
        "object": "response",
        "status": "completed",
        "model": "demo",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1,
        "top_p": 1,
        "top_logprobs": 0,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "tool_choice": "auto",
        "tools": [],
        "truncation": "disabled",
        "service_tier": "default",
        "reasoning": {"effort": None, "summary": None},
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "store": False,
        "background": False,
        "previous_response_id": None,
        "content_filters": None,
    }
    assert {name: got[name] for name in expected} == expected


async def test_what_was_asked_for_is_echoed(ask: Ask) -> None:
    asked = {
        "instructions": "Be brief",
        "temperature": 0.5,
        "top_p": 0.9,
        "top_logprobs": 2,
        "max_output_tokens": 400,
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "truncation": "auto",
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "service_tier": "flex",
        "tool_choice": "none",
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
    }
    got = await ask("Hello", **asked)
    assert {name: got[name] for name in asked} == asked


async def test_an_absent_parameter_may_be_null(ask: Ask) -> None:
    nothing: dict[str, None] = dict.fromkeys(
        ["tools", "tool_choice", "text", "reasoning", "metadata", "background", "include", "prompt"]
    )
    got = await ask("Hello", **nothing, previous_response_id=None, conversation=None, stream=None)
    assert (got["tools"], got["tool_choice"], got["metadata"]) == ([], "auto", {})


async def test_structures_are_echoed_with_their_defaults_filled_in(ask: Ask) -> None:
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    tools: list[dict[str, Any]] = [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}]
    got = await ask("Hello", text={"format": form, "verbosity": None}, tools=tools, reasoning={"effort": "high"})
    assert got["text"] == {"format": {**form, "description": None, "strict": False}, "verbosity": "medium"}
    assert got["tools"] == [{**tools[0], "description": None, "strict": True}, tools[1]]
    assert got["reasoning"] == {"effort": "high", "summary": None}


@pytest.mark.parametrize(("asked", "served"), [("auto", "default"), ("fast", "priority"), ("priority", "priority")])
async def test_the_tier_that_serves_is_named(asked: str, served: str, ask: Ask) -> None:
    assert (await ask("Hello", service_tier=asked))["service_tier"] == served


async def test_usage_adds_up_and_grows_with_the_input(ask: Ask) -> None:
    short = (await ask("[words:7]", reasoning={"effort": "low"}))["usage"]
    assert short["output_tokens"] == 7 + short["output_tokens_details"]["reasoning_tokens"]
    assert short["output_tokens_details"]["reasoning_tokens"] > 0
    assert short["input_tokens_details"]["cached_tokens"] == 0
    assert short["total_tokens"] == short["input_tokens"] + short["output_tokens"]
    longer = (await ask("[words:7]" + " and so on" * 40))["usage"]
    assert longer["input_tokens"] > short["input_tokens"] > 0
    assert longer["output_tokens_details"]["reasoning_tokens"] == 0


@pytest.mark.parametrize("reasoning", [None, {"effort": "none"}])
async def test_without_an_effort_there_is_no_reasoning(reasoning: Any, ask: Ask) -> None:
    assert [item["type"] for item in (await ask("Hello", reasoning=reasoning))["output"]] == ["message"]


async def test_reasoning_comes_first_and_is_accepted_when_it_is_sent_back(ask: Ask) -> None:
    got = await ask("My name is Ada", reasoning={"effort": "low"})
    thought, message = got["output"]
    assert thought["id"].startswith("rs_")
    assert thought["summary"] == []
    assert thought["encrypted_content"].startswith("demo-enc:")
    history = [{"role": "user", "content": "My name is Ada"}, thought, message]
    again = await ask([*history, {"role": "user", "content": "What is my name?"}])
    assert again["output_text"] == "Your name is Ada."
    summed = await ask("Hello", reasoning={"summary": "auto"})
    assert [part["type"] for part in summed["output"][0]["summary"]] == ["summary_text"]


async def test_an_ordered_end_is_incomplete(ask: Ask) -> None:
    got = await ask("[words:10] [incomplete]")
    assert (got["status"], got["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert got["completed_at"] is None
    assert got["output"][0]["status"] == "incomplete"
    assert got["output_text"] == "w1 w2 w3 w4 w5 "


async def test_the_output_limit_counts_reasoning_and_cuts_the_answer(ask: Ask) -> None:
    got = await ask("[words:50]", max_output_tokens=16, reasoning={"effort": "low"})
    assert got["status"] == "incomplete"
    assert got["usage"]["output_tokens"] == 16
    assert 0 < len(got["output_text"].split()) < 16
    exact = await ask("[words:16]", max_output_tokens=16)
    assert exact["status"] == "completed"


async def test_an_ordered_failure_is_a_failed_response(ask: Ask) -> None:
    got = await ask("[fail] [incomplete]")
    assert (got["status"], got["error"]["code"]) == ("failed", "server_error")
    assert (got["incomplete_details"], got["completed_at"]) == (None, None)


async def test_log_probabilities_come_when_they_are_included(ask: Ask) -> None:
    include = ["message.output_text.logprobs"]
    got = await ask("[words:2]", include=include, top_logprobs=3)
    logprobs = got["output"][0]["content"][0]["logprobs"]
    assert [entry["token"] for entry in logprobs] == ["w1 ", "w2"]
    assert logprobs[0]["bytes"] == list(b"w1 ")
    assert [len(entry["top_logprobs"]) for entry in logprobs] == [1, 1]
    plain = await ask("[words:2]", include=include)
    assert plain["output"][0]["content"][0]["logprobs"][0]["top_logprobs"] == []
