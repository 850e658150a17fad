"""Embeddings as clients get them: in the form that the SDK asks for, and large ones as they come."""

import asyncio
import base64
from array import array

import httpx
import pytest

from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.passthrough import ledger, posted
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live


async def test_embeddings_come_in_the_form_that_the_sdk_asks_for(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    floats = base64.b64encode(array("f", [0.5, -0.25]).tobytes()).decode()
    data = [{"object": "embedding", "index": 0, "embedding": floats}]
    counted = {"prompt_tokens": 6, "total_tokens": 6}
    upstream.enqueue(Reply.json(200, {"object": "list", "data": data, "model": "e-7", "usage": counted}))
    async with sqlite_gateway.client() as client:
        made = await client.embeddings.create(model="e", input=["one", "two"])
    assert made.data[0].embedding == [0.5, -0.25]
    assert upstream.requests[0].json == {"model": "e", "input": ["one", "two"], "encoding_format": "base64"}
    entry = (await ledger(sqlite_gateway))[0]
    assert (entry["endpoint"], entry["input_tokens"], entry["output_tokens"]) == ("embeddings", 6, 0)
    assert (entry["model_served"], entry["is_estimated"]) == ("e-7", False)


async def test_large_embeddings_go_on_as_they_come(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    """The first bytes reach the client while upstream holds the last ones back."""
    begun = b'{"object":"list","data":[{"embedding":"' + b"A" * 3_000_000
    end = b'"}],"model":"e-7","usage":{"prompt_tokens":6,"total_tokens":6}}'
    goes_on = asyncio.Event()
    length = {"content-type": "application/json", "content-length": str(len(begun + end))}
    upstream.enqueue(Reply([Reply.head(200, length) + begun, goes_on, end]))
    body = {"model": "e", "input": [[1, 2, 3]]}
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream(
            "POST", f"{sqlite_gateway.base_url}/embeddings", json=body, headers=sqlite_gateway.headers()
        ) as answer,
    ):
        pieces = answer.aiter_bytes()
        got = b""
        while len(got) < 2_000_000:
            got += await anext(pieces)
        goes_on.set()
        got += b"".join([piece async for piece in pieces])
    assert got == begun + end
    assert [(entry["input_tokens"], entry["is_estimated"]) for entry in await ledger(sqlite_gateway)] == [(6, False)]


async def test_large_embeddings_that_break_off_end_the_connection(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    begun = b'{"object":"list","data":[{"embedding":"' + b"A" * 300_000
    length = {"content-type": "application/json", "content-length": "900000"}
    upstream.enqueue(Reply([Reply.head(200, length) + begun, Act.CLOSE]))
    with pytest.raises(httpx.RemoteProtocolError):
        await posted(sqlite_gateway, "/embeddings", model="e", input="x")
    entry = (await ledger(sqlite_gateway))[0]
    assert (entry["response_status"], entry["error_code"]) == ("failed", "upstream_disconnected")


async def test_a_stop_amid_large_embeddings_is_in_the_ledger(sqlite_url: str, upstream: FakeUpstream) -> None:
    begun = b'{"object":"list","data":[{"embedding":"' + b"A" * 300_000
    length = {"content-type": "application/json", "content-length": "900000"}
    upstream.enqueue(Reply([Reply.head(200, length) + begun, Act.STALL]))
    async with running_gateway(sqlite_url, [upstream_settings(upstream.url)]) as gateway:
        async with (
            httpx.AsyncClient(timeout=30) as client,
            client.stream(
                "POST", f"{gateway.base_url}/embeddings", json={"model": "e", "input": "x"}, headers=gateway.headers()
            ) as answer,
        ):
            pieces = answer.aiter_bytes()
            await anext(pieces)
            await gateway.app.state.services.registry.drain(0.0, 5.0)
            with pytest.raises(httpx.RemoteProtocolError):
                [piece async for piece in pieces]
        entry = (await ledger(gateway))[0]
    assert (entry["response_status"], entry["error_code"]) == ("failed", "gateway_shutdown")


async def test_a_client_that_leaves_amid_large_embeddings_pays_for_its_input(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    begun = b'{"object":"list","data":[{"embedding":"' + b"A" * 300_000
    length = {"content-type": "application/json", "content-length": "900000"}
    upstream.enqueue(Reply([Reply.head(200, length) + begun, Act.STALL]))
    body = {"model": "e", "input": "x" * 4000}
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream(
            "POST", f"{sqlite_gateway.base_url}/embeddings", json=body, headers=sqlite_gateway.headers()
        ) as answer,
    ):
        await anext(answer.aiter_bytes())
    async with asyncio.timeout(10):
        await upstream.requests[0].closed.wait()
    entry = (await ledger(sqlite_gateway))[0]
    assert (entry["status"], entry["output_tokens"], entry["is_estimated"]) == (499, 0, True)
    assert entry["input_tokens"] >= 1000
