"""How a relayed chat stream ends where it does not end well: one error, no `[DONE]`, and what passed is paid for."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from app.storage.usage.tables import usage
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.ledger import rows
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

BODY: Any = {"model": "m", "messages": [{"role": "user", "content": "Go"}], "stream": True}
FIRST = b'data: {"id":"chatcmpl-1","model":"m-7","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 400)


async def ended(gateway: LiveGateway) -> tuple[bytes, dict[str, Any]]:
    """What a client gets to the end, and the entry of its call."""
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(f"{gateway.base_url}/chat/completions", json=BODY, headers=gateway.headers())
    return answer.content, await entry_of(gateway)


async def entry_of(gateway: LiveGateway) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while not (entries := await asyncio.to_thread(rows, gateway.settings.storage.url, usage)):
            await asyncio.sleep(0.05)
    return entries[0]


def error_in(frame: bytes) -> dict[str, Any]:
    error: dict[str, Any] = orjson.loads(frame.removeprefix(b"data: "))["error"]
    return error


@pytest.mark.parametrize("act", [Act.CLOSE, Act.RESET, None], ids=["closed", "reset", "ended"])
async def test_a_stream_that_breaks_off_ends_with_one_error_and_is_paid_for(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, act: Act | None
) -> None:
    upstream.enqueue(Reply.sse([FIRST], then=act))
    content, entry = await ended(sqlite_gateway)
    assert content.startswith(FIRST)
    error = error_in(content.removeprefix(FIRST))
    assert (error["code"], error["type"]) == ("upstream_disconnected", "server_error")
    assert (entry["response_status"], entry["error_code"]) == ("failed", "upstream_disconnected")
    assert (entry["output_tokens"], entry["is_estimated"]) == (100, True)


async def test_an_answer_that_says_why_it_ends_needs_no_mark(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason": "length"}]}\r\n\r\n'
    upstream.enqueue(Reply.sse([FIRST, last]))
    content, entry = await ended(sqlite_gateway)
    assert content == FIRST + last
    assert entry["response_status"] == "completed"


async def test_upstreams_own_error_passes_without_its_key_and_rests_the_account(
    sqlite_url: str, upstream: FakeUpstream
) -> None:
    limited = b'data: {"error":{"message":"Slow down, sk-secret-key.","code":"rate_limit_exceeded","status":429}}\n\n'
    upstream.enqueue(Reply.sse([FIRST, limited]))
    settings = [upstream_settings(upstream.url, "sk-secret-key")]
    async with running_gateway(sqlite_url, settings, relay={"pool_wait_seconds": 0}) as gateway:
        async with httpx.AsyncClient(timeout=30) as client:
            url, headers = f"{gateway.base_url}/chat/completions", gateway.headers()
            answer = await client.post(url, json=BODY, headers=headers)
            again = await client.post(url, json=BODY, headers=headers)
        entry = await entry_of(gateway)
    assert answer.content == FIRST + limited.replace(b"sk-secret-key", b"[redacted]")
    assert (entry["response_status"], entry["error_code"]) == ("failed", "rate_limit_exceeded")
    assert (again.status_code, len(upstream.requests)) == (429, 1)


async def test_a_client_that_leaves_ends_upstreams_work_and_pays_for_what_it_got(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.sse([FIRST], then=Act.STALL))
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream(
            "POST", f"{sqlite_gateway.base_url}/chat/completions", json=BODY, headers=sqlite_gateway.headers()
        ) as answer,
    ):
        assert await anext(answer.aiter_bytes()) == FIRST
    async with asyncio.timeout(10):
        await upstream.requests[0].closed.wait()
    entry = await entry_of(sqlite_gateway)
    assert (entry["status"], entry["output_tokens"], entry["is_estimated"]) == (499, 100, True)


async def test_a_frame_that_is_too_large_ends_the_stream(sqlite_url: str, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse([FIRST, b"data: " + b"y" * 300_000], then=Act.STALL))
    settings = [upstream_settings(upstream.url)]
    async with running_gateway(sqlite_url, settings, relay={"max_event_bytes": 100_000}) as gateway:
        content, _ = await ended(gateway)
    assert error_in(content.removeprefix(FIRST))["code"] == "upstream_event_too_large"


async def test_a_stop_ends_a_stream_with_an_error(sqlite_url: str, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse([FIRST], then=Act.STALL))
    settings = [upstream_settings(upstream.url)]
    async with (
        running_gateway(sqlite_url, settings) as gateway,
        httpx.AsyncClient(timeout=30) as client,
        client.stream("POST", f"{gateway.base_url}/chat/completions", json=BODY, headers=gateway.headers()) as answer,
    ):
        pieces = answer.aiter_bytes()
        assert await anext(pieces) == FIRST
        await gateway.app.state.services.registry.drain(0.0, 5.0)
        rest = b"".join([piece async for piece in pieces])
    assert error_in(rest)["code"] == "gateway_shutdown"
