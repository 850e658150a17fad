"""Objects that the gateway makes itself, on each kind of database: OpenAI's to the field."""

import asyncio
from typing import Any, NamedTuple

import httpx2
import orjson
import pytest
from openai.types.responses.input_token_count_response import InputTokenCountResponse

from tests.fakes.background import BackgroundClient
from tests.fakes.gateway import LiveGateway
from tests.fakes.openai_document import document
from tests.fakes.openai_types import CONVERSATION_ITEM_LIST, EVENT, ITEM, ITEM_LIST, check, check_response
from tests.fakes.replies import Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import events, story
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

_ASKED: dict[str, Any] = {
    "model": "demo",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Hi"},
                {"type": "input_image", "image_url": "https://a.example"},
            ],
        },
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And?"},
    ],
    "tools": [{"type": "function", "name": "f"}, {"type": "mcp", "server_label": "s", "authorization": "secret"}],
    "text": {"verbosity": "low"},
    "metadata": {"a": "b"},
    "user": "u",
}
_SECONDS = 60.0


class Made(NamedTuple):
    """An object, what it is, its SDK type where its `object` does not say it, and its name in OpenAI's document."""

    what: str
    value: Any
    kind: Any = None
    schema: str = "Response"
    is_rebuilt: bool = False


class Client(NamedTuple):
    """A client that takes answers as they come."""

    http: httpx2.AsyncClient
    gateway: LiveGateway

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        url, headers = f"{self.gateway.base_url}/{path}", self.gateway.headers()
        answer = await self.http.request(method, url, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def in_the_background(gateway: LiveGateway, upstream: FakeUpstream) -> list[Made]:
    """Responses in the background: queued, under way, cancelled, failed, and their events."""
    go = asyncio.Event()
    upstream.enqueue(Reply.held(story("resp_up")[:2], go, []))
    async with BackgroundClient.to(gateway.url, gateway.key) as client:
        created = await client.create(**_ASKED)
        made_id = created.json()["id"]
        queued = await client.ask("GET", made_id)
        await client.status(made_id, "in_progress")
        await upstream.request(timeout=30)
        running = await client.ask("GET", made_id)
        cancelled = await client.ask("POST", made_id, "/cancel")
        go.set()
        upstream.enqueue(Reply.error(400, "invalid_prompt"))
        failed = await client.ended(await client.order(**_ASKED))
        upstream.enqueue(Reply.sse(story("resp_cut")[:4]))
        cut = await client.order(**_ASKED, stream=True)
        broken, told = await client.ended(cut), events((await client.heard(cut)).partition(b"data: [DONE]")[0])
    ours = [event for event in told if event["type"] in {"response.created", "response.queued", "response.failed"}]
    return [
        Made("created", created.json()),
        Made("queued", queued.json()),
        Made("in progress", running.json()),
        Made("cancelled", cancelled.json(), is_rebuilt=True),
        Made("failed", failed),
        Made("broken off", broken, is_rebuilt=True),
        *[Made(event["type"], event, EVENT, "ResponseStreamEvent") for event in ours],
        *[Made(event["type"], event["response"], is_rebuilt=event is ours[-1]) for event in ours],
    ]


async def at_once(gateway: LiveGateway, upstream: FakeUpstream) -> list[Made]:
    """A stream that breaks off and is ended, and the events of a warm-up."""
    async with httpx2.AsyncClient(timeout=_SECONDS) as http:
        upstream.enqueue(Reply.sse(story("resp_dead")[:1]))
        url, body = f"{gateway.base_url}/responses", {**_ASKED, "stream": True}
        answer = await http.post(url, json=body, headers=gateway.headers())
        kept = await Client(http, gateway).ask("GET", "responses/resp_dead")
    last = events(answer.content.partition(b"data: [DONE]")[0])[-1]
    async with SocketClient.to(gateway) as socket:
        warm = await socket.turn_events(**_ASKED, generate=False)
    ended = [last, *warm]
    return [
        Made("kept of a stream", kept, is_rebuilt=True),
        *[Made(event["type"], event, EVENT, "ResponseStreamEvent") for event in ended],
        *[Made(event["type"], event["response"], is_rebuilt=event is last) for event in ended],
    ]


async def of_items(gateway: LiveGateway, _: FakeUpstream) -> list[Made]:
    """Conversations, lists of items, what is deleted, compacted and counted."""
    async with httpx2.AsyncClient(timeout=_SECONDS) as http:
        ask = Client(http, gateway).ask
        made = await ask("POST", "responses", _ASKED)
        conversation = await ask("POST", "conversations", {"items": _ASKED["input"], "metadata": {"a": "b"}})
        path = f"conversations/{conversation['id']}"
        listed = await ask("GET", f"{path}/items")
        compacted = await ask("POST", "responses/compact", {"model": "demo", "input": _ASKED["input"]})
        for item in compacted["output"]:
            check(item, ITEM)
        # The SDK's type of it knows no user's messages, which OpenAI returns there as well.
        compacted["output"] = compacted["output"][-1:]
        return [
            Made("conversation", conversation, None, "ConversationResource"),
            Made("conversation read", await ask("GET", path), None, "ConversationResource"),
            Made("conversation changed", await ask("POST", path, {"metadata": {}}), None, "ConversationResource"),
            Made("listed", listed, CONVERSATION_ITEM_LIST, "ConversationItemList"),
            Made(
                "added",
                await ask("POST", f"{path}/items", {"items": [{"role": "user", "content": "Hi"}]}),
                CONVERSATION_ITEM_LIST,
                "ConversationItemList",
            ),
            Made("input", await ask("GET", f"responses/{made['id']}/input_items"), ITEM_LIST, "ResponseItemList"),
            Made(
                "one less",
                await ask("DELETE", f"{path}/items/{listed['data'][0]['id']}"),
                None,
                "ConversationResource",
            ),
            Made("deleted", await ask("DELETE", path), None, "DeletedConversationResource"),
            Made(
                "counted",
                await ask("POST", "responses/input_tokens", {"input": "Hi"}),
                InputTokenCountResponse,
                "TokenCountsResource",
            ),
            Made("compacted", compacted, None, "CompactResource"),
        ]


_MAKERS = (in_the_background, at_once, of_items)


@pytest.mark.parametrize("make", _MAKERS)
async def test_what_the_gateway_makes_is_openais_to_the_field(
    make: Any, gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    for made in await make(gateway, upstream):
        if made.schema == "Response":
            check_response(made.value, is_rebuilt=made.is_rebuilt)
        else:
            check(made.value, made.kind)
        assert b"secret" not in orjson.dumps(made.value), made.what


@pytest.mark.document
@pytest.mark.parametrize("make", _MAKERS)
async def test_openais_document_calls_it_valid(make: Any, sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    document()
    faults = []
    for made in await make(sqlite_gateway, upstream):
        value = orjson.loads(orjson.dumps(made.value))
        # The document leaves it out until there is some; on the wire it is null.
        response = value.get("response", value)
        if response.get("usage", ...) is None:
            del response["usage"]
        faults += [f"{made.what}: {fault}" for fault in document().faults(made.schema, value)]
    assert faults == []


async def test_what_is_deleted_is_told_in_openais_words(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with httpx2.AsyncClient(timeout=_SECONDS) as http:
        ask = Client(http, sqlite_gateway).ask
        made = await ask("POST", "responses", {"model": "demo", "input": "Hi"})
        gone = await ask("DELETE", f"responses/{made['id']}")
    assert gone == {"id": made["id"], "object": "response.deleted", "deleted": True}
