"""How sloppy upstreams end a chat stream: errors in other shapes, cut frames, empty reasons, connections left open."""

import asyncio
import time
from typing import Any

import httpx
import orjson
import pytest

from app.relay.passthrough import completion_stream
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.passthrough import COUNTED, MESSAGES, STREAM, USED, frames, ledger, posted, said
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

CALL: Any = {"model": "m", "messages": MESSAGES, "stream": True}
SECRET = "sk-secret-key"
FIRST = frames(said("x" * 400), done=False)


def error_at_the_end(content: bytes, before: bytes) -> str:
    assert content.startswith(before)
    code: str = orjson.loads(content.removeprefix(before).removeprefix(b"data: "))["error"]["code"]
    return code


@pytest.mark.parametrize(
    "error",
    [
        b'event: error\ndata: {"message":"No, %b.","code":"internal"}\n\n',
        b'data: {"object":"error","message":"No, %b.","code":"internal"}\n\n',
        b'data: {"type": "error", "message": "No, %b.", "code": "internal"}\r\n\r\n',
        b'data: {"error":"No, %b.","code":"internal"}\n\n',
    ],
    ids=["by its event", "by its object", "by its type", "as a text"],
)
async def test_an_error_of_any_shape_ends_the_stream_without_upstreams_key(
    sqlite_url: str, upstream: FakeUpstream, error: bytes
) -> None:
    upstream.enqueue(Reply.sse([*FIRST, error % SECRET.encode()]))
    async with running_gateway(sqlite_url, [upstream_settings(upstream.url, SECRET)]) as gateway:
        answer = await posted(gateway, "/chat/completions", **CALL)
        entry = (await ledger(gateway))[0]
    assert answer.content == FIRST[0] + error % b"[redacted]"
    assert (entry["response_status"], entry["error_code"], entry["output_tokens"]) == ("failed", "internal", 100)


async def test_an_error_object_in_place_of_a_stream_is_followed_by_another_account(
    sqlite_url: str, upstream: FakeUpstream
) -> None:
    error = b'data: {"object":"error","message":"Busy.","code":503}\n\n'
    upstream.enqueue(Reply.sse([error]), Reply.sse(STREAM))
    async with running_gateway(sqlite_url, [upstream_settings(upstream.url, "sk-one", "sk-two")]) as gateway:
        answer = await posted(gateway, "/chat/completions", **CALL)
    assert answer.content == b"".join(STREAM)


async def test_the_part_of_a_frame_does_not_spoil_the_error_behind_it(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.sse([*FIRST, b'data: {"choices":[{"delta":{"content":"zz']))
    content = (await posted(sqlite_gateway, "/chat/completions", **CALL)).content
    assert error_at_the_end(content, FIRST[0]) == "upstream_disconnected"


@pytest.mark.parametrize("line_end", [b"", b"\n"])
async def test_a_last_frame_without_its_blank_line_is_whole(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, line_end: bytes
) -> None:
    cut = frames(said("y"), done=False)[0].rstrip(b"\n") + line_end
    upstream.enqueue(Reply.sse([*FIRST, cut]), Reply.sse([*FIRST, b"data: [DONE]" + line_end]))
    content = (await posted(sqlite_gateway, "/chat/completions", **CALL)).content
    assert error_at_the_end(content, FIRST[0] + cut + b"\n\n") == "upstream_disconnected"
    marked = await posted(sqlite_gateway, "/chat/completions", **CALL)
    assert marked.content == FIRST[0] + b"data: [DONE]" + line_end


async def test_an_empty_reason_is_none(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    begun = frames(said("Hi", ""), done=False)
    upstream.enqueue(Reply.sse(begun))
    content = (await posted(sqlite_gateway, "/chat/completions", **CALL)).content
    assert error_at_the_end(content, begun[0]) == "upstream_disconnected"


async def test_each_of_several_answers_says_why_it_ends(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse(frames(said("Hi"), said("", "stop"), done=False)))
    await posted(sqlite_gateway, "/chat/completions", **CALL, n=2)
    assert (await ledger(sqlite_gateway))[0]["error_code"] == "upstream_disconnected"


async def test_a_count_of_the_prompt_before_the_answer_is_not_its_usage(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    begun = {**said(""), "usage": {**USED, "completion_tokens": 0}}
    upstream.enqueue(Reply.sse(frames(begun, said("x" * 400), said("", "stop"))))
    await posted(sqlite_gateway, "/chat/completions", **CALL)
    entry = (await ledger(sqlite_gateway))[0]
    assert (entry["output_tokens"], entry["is_estimated"]) == (100, True)


async def test_usages_that_grow_count_once(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    grown = [{**said("x" * 40), "usage": {**USED, "completion_tokens": made}, "error": None} for made in (0, 1, 2, 3)]
    upstream.enqueue(Reply.sse(frames(*grown, {**said("", "stop"), "usage": USED})))
    answer = await posted(sqlite_gateway, "/chat/completions", **CALL)
    assert answer.content == b"".join(frames(*grown, {**said("", "stop"), "usage": USED}))
    entry = (await ledger(sqlite_gateway))[0]
    assert (entry["input_tokens"], entry["output_tokens"], entry["is_estimated"]) == (9, 4, False)


async def test_a_client_that_leaves_at_the_mark_has_had_its_answer(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.sse(COUNTED, then=Act.STALL))
    url, got = f"{sqlite_gateway.base_url}/chat/completions", b""
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream("POST", url, json=CALL, headers=sqlite_gateway.headers()) as answer,
    ):
        async for piece in answer.aiter_bytes():
            got += piece
            if b"[DONE]" in got:
                break
    async with asyncio.timeout(4):
        await upstream.requests[0].closed.wait()
    entry = (await ledger(sqlite_gateway))[0]
    assert (entry["status"], entry["response_status"], entry["output_tokens"]) == (200, "completed", 4)


async def test_an_upstream_that_stays_after_its_mark_keeps_no_client(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion_stream, "TAIL_SECONDS", 0.2)
    upstream.enqueue(Reply.sse(COUNTED, then=Act.STALL))
    began = time.monotonic()
    assert (await posted(sqlite_gateway, "/chat/completions", **CALL)).content == b"".join(STREAM)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("act", [Act.CLOSE, Act.RESET], ids=["closed", "reset"])
async def test_a_connection_that_breaks_behind_the_answer_is_no_error(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, act: Act
) -> None:
    whole = frames(said("Hi"), {**said("", "stop"), "usage": USED}, done=False)
    upstream.enqueue(Reply.sse(whole, then=act))
    assert (await posted(sqlite_gateway, "/chat/completions", **CALL)).content == b"".join(whole)
    entry = (await ledger(sqlite_gateway))[0]
    assert (entry["response_status"], entry["error_code"], entry["output_tokens"]) == ("completed", None, 4)
