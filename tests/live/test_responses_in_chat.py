"""A create call that is sent where chat completions are asked for: made as a response, answered in chat's form."""

from typing import Any

import httpx
import orjson
import pytest

from tests.fakes.gateway import LiveGateway
from tests.fakes.passthrough import ledger, posted
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import frame, response, story
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

INPUT: Any = [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]
FLAT: Any = {"type": "function", "name": "read_file", "parameters": {"type": "object"}, "strict": False}
GROUPED: Any = {"type": "function", "function": {"name": "list_dir", "parameters": {"type": "object"}}}
CUSTOM: Any = {"type": "custom", "name": "apply_patch"}
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens": 4,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 13,
}


def call(kind: str, place: int, name: str, said: str, grown: str) -> list[bytes]:
    """The events of one call."""
    item = {"id": f"it_{place}", "type": kind, "call_id": f"call_{place}", "name": name}
    delta = f"response.{'function_call_arguments' if grown == 'arguments' else 'custom_tool_call_input'}.delta"
    at = {"output_index": place}
    return [
        frame("response.output_item.added", 0, **at, item={**item, grown: ""}),
        *(frame(delta, 0, **at, item_id=item["id"], delta=part) for part in (said[:3], said[3:])),
        frame("response.output_item.done", 0, **at, item={**item, grown: said}),
    ]


def ended(status: str = "completed", **members: Any) -> bytes:
    return frame(f"response.{status}", 9, response={**response("resp_1", status), "usage": USAGE, **members})


CREATED = frame("response.created", 0, response=response("resp_1", "in_progress"))


def chunks_in(content: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(each[6:]) for each in content.split(b"\n\n") if each.startswith(b"data: {")]


async def test_a_whole_one_is_a_completion_and_leaves_nothing(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    tools = [FLAT, GROUPED, CUSTOM]
    async with httpx.AsyncClient(timeout=30) as client:
        body = {"model": "demo", "input": INPUT, "messages": [], "tools": tools, "stream_options": {}, "store": True}
        answer = await client.post(f"{gateway.base_url}/chat/completions", json=body, headers=gateway.headers())
    told = answer.json()
    assert (answer.status_code, told["object"], told["choices"][0]["finish_reason"]) == (200, "chat.completion", "stop")
    assert told["choices"][0]["message"]["content"]
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"]
    sent = upstream.requests[0]
    assert sent.path == "/v1/responses"
    flat = {"type": "function", "name": "list_dir", "parameters": {"type": "object"}}
    assert sent.json == {"model": "demo", "input": INPUT, "tools": [FLAT, flat, CUSTOM], "store": False}
    assert (await ledger(gateway))[0]["endpoint"] == "responses"


async def test_a_streamed_one_is_chunks_with_each_call_in_its_place(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    calls = call("function_call", 1, "read_file", '{"a":1}', "arguments")
    calls += call("custom_tool_call", 2, "apply_patch", "*** Begin", "input")
    thinking = frame("response.reasoning_summary_text.delta", 0, output_index=0, delta="Hm.")
    text = frame("response.output_text.delta", 0, output_index=0, delta="So:")
    upstream.enqueue(Reply.sse([CREATED, thinking, text, *calls, ended(), b"data: [DONE]\n\n"]))
    answer = await posted(sqlite_gateway, "/chat/completions", model="demo", input=INPUT, stream=True)
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert answer.content.count(b"[DONE]") == 1
    chunks = chunks_in(answer.content)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert deltas[:3] == [{"role": "assistant", "content": ""}, {"reasoning_content": "Hm."}, {"content": "So:"}]
    assert [each["tool_calls"][0] for each in deltas[3:-1]] == [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "read_file", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a'}},
        {"index": 0, "function": {"arguments": '":1}'}},
        {"index": 1, "id": "call_2", "type": "custom", "custom": {"name": "apply_patch", "input": ""}},
        {"index": 1, "custom": {"input": "***"}},
        {"index": 1, "custom": {"input": " Begin"}},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


async def test_what_is_only_said_at_the_end_is_said_all_the_same(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    """A server that sends no deltas."""
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "All."}]}
    done = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    told = frame("response.output_item.done", 1, output_index=1, item=done)
    upstream.enqueue(Reply.sse([CREATED, told, ended(output=[message, done])]))
    chunks = chunks_in(
        (await posted(sqlite_gateway, "/chat/completions", model="demo", input="Hi", stream=True)).content
    )
    (first, called, text, last) = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert (first["role"], text, last) == ("assistant", {"content": "All."}, {})
    assert called["tool_calls"] == [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


@pytest.mark.parametrize(("reason", "said"), [("max_output_tokens", "length"), ("content_filter", "content_filter")])
async def test_one_that_was_cut_short_says_why(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, reason: str, said: str
) -> None:
    cut = ended("incomplete", incomplete_details={"reason": reason})
    upstream.enqueue(Reply.sse([CREATED, cut]))
    chunks = chunks_in(
        (await posted(sqlite_gateway, "/chat/completions", model="demo", input="Hi", stream=True)).content
    )
    assert chunks[-2]["choices"][0]["finish_reason"] == said


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_one_that_failed_is_an_error_without_the_mark_of_the_end(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, stream: bool
) -> None:
    failed = {**response("resp_1", "failed"), "error": {"code": "server_error", "message": "Down."}}
    upstream.enqueue(
        Reply.sse([CREATED, frame("response.failed", 1, response=failed)]) if stream else (Reply.json(200, failed))
    )
    answer = await posted(sqlite_gateway, "/chat/completions", model="demo", input="Hi", stream=stream)
    error = chunks_in(answer.content)[-1]["error"] if stream else answer.json()["error"]
    assert (error["code"], error["message"]) == ("server_error", "Down.")
    assert answer.status_code == (200 if stream else 502)
    assert b"[DONE]" not in answer.content


async def test_an_upstream_that_dies_is_an_error_too(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse(story("resp_1")[:4], then=Act.CLOSE))
    answer = await posted(sqlite_gateway, "/chat/completions", model="demo", input="Hi", stream=True)
    assert "error" in chunks_in(answer.content)[-1]
    assert b"[DONE]" not in answer.content


async def test_the_sdk_reads_it(sqlite_gateway: LiveGateway) -> None:
    async with sqlite_gateway.client() as client:
        stream = await client.chat.completions.create(
            model="demo", messages=[], stream=True, extra_body={"input": "[words:3]"}
        )
        chunks = [chunk async for chunk in stream]
    said = "".join([chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices])
    assert len(said.split()) == 3
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


async def test_bad_input_is_refused_as_that_of_a_response(sqlite_gateway: LiveGateway) -> None:
    answer = await posted(sqlite_gateway, "/chat/completions", model="demo", input=5, messages=[])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
