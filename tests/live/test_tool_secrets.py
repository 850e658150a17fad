"""What a request's tools authenticate with: sent upstream, and in nothing that the gateway makes or keeps of a call."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2
import orjson
import pytest

from app.storage.tables import metadata
from tests.fakes.background import BackgroundClient
from tests.fakes.gateway import LiveGateway
from tests.fakes.ledger import rows
from tests.fakes.replies import Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import frame, item, response
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

SECRET = "sk-own-of-the-client"
TOOL: Mapping[str, Any] = {
    "type": "mcp",
    "server_label": "s",
    "server_url": f"https://mcp.example/{SECRET}",
    "authorization": f"Bearer {SECRET}",
    "headers": {"x-api-key": SECRET, "x-short": "s3"},
}
_SECONDS = 60.0


def echoed(request: Recorded) -> dict[str, Any]:
    """A response object that repeats the request with all that is in it, as some upstreams do, and quotes from it."""
    made = response("resp_up", "completed", [item(f"401 for {SECRET}")])
    return {**made, "tools": request.json["tools"], "metadata": {"word": "s3"}}


def repeat(request: Recorded) -> Reply:
    """An upstream that repeats what it was asked."""
    if not request.json.get("stream"):
        return Reply.json(200, echoed(request))
    begun = {**echoed(request), "status": "in_progress", "output": []}
    return Reply.sse(
        [
            frame("response.created", 0, response=begun),
            frame("response.in_progress", 1, response=begun),
            frame("response.output_text.delta", 2, output_index=0, delta=f"401 for {SECRET}"),
            frame("response.completed", 3, response=echoed(request)),
        ]
    )


def kept(gateway: LiveGateway) -> str:
    """All that the database has."""
    return "".join([repr(rows(gateway.settings.storage.url, table)) for table in metadata.sorted_tables])


async def ask(gateway: LiveGateway, **members: Any) -> httpx2.Response:
    body = {"model": "m", "input": "Hi", "tools": [TOOL], **members}
    async with httpx2.AsyncClient(timeout=_SECONDS) as http:
        return await http.post(f"{gateway.base_url}/responses", json=body, headers=gateway.headers())


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_leaves_no_secret_behind(gateway: LiveGateway, upstream: FakeUpstream, stream: bool) -> None:
    upstream.respond = repeat
    answer = await ask(gateway, stream=stream)
    assert answer.status_code == 200, answer.text
    assert upstream.requests[0].json["tools"] == [TOOL]
    if not stream:
        # A stream is relayed byte for byte: what upstream repeats in it, its client sent.
        assert SECRET not in answer.text
    async with gateway.client() as client:
        stored = await client.responses.retrieve("resp_up")
    assert stored.output_text == "401 for <redacted>"
    assert stored.tools[0].to_dict() == {
        "type": "mcp",
        "server_label": "s",
        "server_url": "https://mcp.example/<redacted>",
    }
    assert stored.metadata == {"word": "s3"}
    assert SECRET not in kept(gateway)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_in_the_background_waits_sealed_and_is_kept_without_secrets(
    gateway: LiveGateway, upstream: FakeUpstream, stream: bool
) -> None:
    go = asyncio.Event()

    async def later(request: Recorded) -> Reply:
        await go.wait()
        return repeat(request)

    upstream.respond = later
    async with BackgroundClient.to(gateway.url, gateway.key) as client:
        made = await client.order(tools=[TOOL], stream=stream)
        queued = await client.ask("GET", made)
        await upstream.request()
        assert SECRET not in kept(gateway)
        go.set()
        done = await client.ended(made)
        heard = await client.heard(made) if stream else b""
    assert done["status"] == "completed"
    assert upstream.requests[0].json["tools"] == [TOOL]
    assert done["output"][0]["content"][0]["text"] == "401 for <redacted>"
    assert SECRET not in queued.text + orjson.dumps(done).decode() + heard.decode() + kept(gateway)


async def test_a_failed_response_in_the_background_quotes_no_secret(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.error(400, "invalid_request_error", message=f"The MCP server refused 'Bearer {SECRET}'."))
    async with BackgroundClient.to(gateway.url, gateway.key) as client:
        done = await client.ended(await client.order(tools=[TOOL]))
    assert "refused 'Bearer <redacted>'" in done["error"]["message"]
    assert SECRET not in orjson.dumps(done).decode() + kept(gateway)


async def test_an_error_quotes_no_secret(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.error(400, "invalid_request_error", message=f"The MCP server refused '{SECRET}'."))
    refused = await ask(sqlite_gateway)
    assert refused.json()["error"]["message"] == "The MCP server refused '<redacted>'."


async def test_a_stream_that_breaks_off_is_ended_without_secrets(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    def broken(request: Recorded) -> Reply:
        begun = {**echoed(request), "status": "in_progress", "output": []}
        return Reply.sse([frame("response.created", 0, response=begun)])

    upstream.respond = broken
    told = (await ask(sqlite_gateway, stream=True)).text
    _, _, ending = told.partition("event: response.failed")
    assert '"status":"failed"' in ending
    assert SECRET not in ending + kept(sqlite_gateway)


@pytest.mark.parametrize("store", [False, True])
async def test_a_warm_up_tells_no_secret(sqlite_gateway: LiveGateway, store: bool) -> None:
    async with SocketClient.to(sqlite_gateway) as client:
        await client.turn_events(tools=[TOOL], generate=False, store=store)
        assert SECRET.encode() not in b"".join(client.texts)
    assert SECRET not in kept(sqlite_gateway)


async def test_tools_in_the_input_are_sent_once_and_kept_without_secrets(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    given: Any = [{"type": "additional_tools", "role": "developer", "tools": [TOOL]}, {"role": "user", "content": "Hi"}]
    async with sqlite_gateway.client() as client:
        conversation = await client.conversations.create(items=given)
        first = await client.responses.create(model="demo", input=given)
        listed = await client.responses.input_items.list(first.id, order="asc")
    async with BackgroundClient.to(sqlite_gateway.url, sqlite_gateway.key) as background:
        await background.ended(await background.order(input=given))
    assert [request.json["input"] for request in upstream.requests] == [given, given]
    assert listed.data[0].to_dict()["tools"] == [
        {"type": "mcp", "server_label": "s", "server_url": "https://mcp.example/<redacted>"}
    ]
    assert conversation.id
    assert SECRET not in kept(sqlite_gateway)
