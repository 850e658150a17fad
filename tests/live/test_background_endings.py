"""A run ends whatever it waits for and whatever cannot be read of it: at once, as told, and stored with its input."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import delete

from app.storage.tables import runs
from tests.fakes.background import BackgroundClient, change_run, until
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.raw_client import calling
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import events, story
from tests.fakes.upstream import FakeUpstream
from tests.live.conftest import GatewayWith

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

CITY = "My city is Utrecht."
# Within which a cancellation is told on a machine that is busy: what it does not wait for lasts far longer.
SOON_SECONDS = 4.0


class Waiting:
    """A gateway that makes one run at a time, and one that does not end: what is ordered besides it waits."""

    def __init__(self, gateway: LiveGateway, client: BackgroundClient, running: str) -> None:
        self.gateway = gateway
        self.client = client
        self._running = running

    async def go_on(self) -> None:
        """Let what waits begin."""
        assert (await self.client.ask("POST", self._running, "/cancel")).json()["status"] == "cancelled"

    async def stored(self, response_id: str) -> dict[str, Any]:
        """The response as it is found once its run is not kept any more."""

        def work(session: Any) -> None:
            statement = delete(runs).where(runs.c.id == response_id)
            session.write(lambda connection: connection.execute(statement), is_one_statement=False)

        await self.gateway.database.write(work)
        found = await self.client.ask("GET", response_id)
        assert found.status_code == 200
        told: dict[str, Any] = found.json()
        return told

    async def listed(self, response_id: str, **query: Any) -> list[dict[str, Any]]:
        """The response's input, oldest first."""
        found = await self.client.ask("GET", response_id, "/input_items", order="asc", **query)
        assert found.status_code == 200, found.text
        items: list[dict[str, Any]] = found.json()["data"]
        return items


@asynccontextmanager
async def waiting_at(url: str, upstream: FakeUpstream, **memory: Any) -> AsyncIterator[Waiting]:
    async with (
        running_gateway(
            url, [upstream_settings(upstream.url, "sk-one")], background={"background_runs": 1}, memory=memory
        ) as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as client,
    ):
        upstream.enqueue(Reply.sse(story("resp_running")[:3], then=Act.STALL))
        running = await client.order(input="Never ends.")
        await client.status(running, "in_progress")
        await upstream.request(timeout=30)
        yield Waiting(gateway, client, running)


@pytest.fixture
async def waiting(database_url: str, upstream: FakeUpstream) -> AsyncIterator[Waiting]:
    async with waiting_at(database_url, upstream) as waiting:
        yield waiting


def texts(items: list[dict[str, Any]]) -> list[str]:
    return [item["content"][0]["text"] for item in items]


async def test_what_waits_is_cancelled_at_once_though_its_conversation_is_held(
    waiting: Waiting, upstream: FakeUpstream
) -> None:
    client = waiting.client
    async with waiting.gateway.client() as sdk:
        conversation = (await sdk.conversations.create()).id
    ordered = await client.order(input=CITY, conversation=conversation)
    upstream.enqueue(Reply.sse(story("resp_holds")[:3], then=Act.STALL))
    async with calling(waiting.gateway.url, waiting.gateway.key, conversation=conversation) as call:
        await call.until(b"Once upon ")
        await _is_cancelled_soon(client, ordered)
        # It needs the conversation for nothing, and its holder goes on.
        assert (await client.create(conversation=conversation)).json()["error"]["code"] == "conversation_locked"
    told = await waiting.stored(ordered)
    assert (told["status"], told["conversation"]) == ("cancelled", {"id": conversation})
    assert texts(await waiting.listed(ordered)) == [CITY]


@pytest.mark.parametrize("gone", ["parent", "conversation", "body", "seal", "key"])
async def test_what_waits_is_cancelled_at_once_though_it_could_not_begin(waiting: Waiting, gone: str) -> None:
    ordered, is_readable = await _order_without(waiting, gone)
    await _is_cancelled_soon(waiting.client, ordered)
    told = await waiting.stored(ordered)
    assert (told["status"], told["error"]) == ("cancelled", None)
    assert texts(await waiting.listed(ordered)) == ([CITY] if is_readable else [])


@pytest.mark.parametrize("gone", ["parent", "conversation", "body", "seal", "key"])
async def test_a_run_that_cannot_begin_ends_as_a_failure_that_is_kept(waiting: Waiting, gone: str) -> None:
    ordered, is_readable = await _order_without(waiting, gone)
    await waiting.go_on()
    failed = await waiting.client.ended(ordered)
    assert (failed["status"], failed["store"]) == ("failed", True)
    assert failed["error"]["message"]
    assert await waiting.stored(ordered) == failed
    assert texts(await waiting.listed(ordered)) == ([CITY] if is_readable else [])


@pytest.mark.parametrize("gone", ["parent", "body"])
async def test_a_run_that_was_begun_and_left_ends_whatever_is_gone_meanwhile(waiting: Waiting, gone: str) -> None:
    ordered, _ = await _order_without(waiting, gone)
    await change_run(waiting.gateway, ordered, status="in_progress", owner="gone", lease_until=0)
    failed = await waiting.client.ended(ordered)
    assert "run_interrupted" in failed["error"]["message"]
    assert await waiting.stored(ordered) == failed


async def test_a_run_is_cancelled_though_every_place_is_taken(sqlite_url: str, upstream: FakeUpstream) -> None:
    async with waiting_at(sqlite_url, upstream) as waiting, AsyncExitStack() as stack:
        ordered = await waiting.client.order()
        registry = waiting.gateway.app.state.services.registry
        (mine,) = {place.project_id for place in registry._admitted}
        while registry._has_room(mine):
            stack.enter_context(registry.admit_now(mine))
        await _is_cancelled_soon(waiting.client, ordered)


async def test_a_response_is_of_the_time_of_its_order_from_the_first_word_to_the_last(
    waiting: Waiting, upstream: FakeUpstream
) -> None:
    client = waiting.client
    ordered = await client.order(stream=True)
    queued = (await client.ask("GET", ordered)).json()
    await change_run(waiting.gateway, ordered, created_at=queued["created_at"] - 1000)
    upstream.enqueue(Reply.sse(story("resp_theirs")))
    async with client.listening(ordered) as chunks:
        heard = await until(chunks, b"response.queued")
        await waiting.go_on()
        heard += b"".join([chunk async for chunk in chunks])
    ended = await client.ended(ordered)
    assert ended["status"] == "completed"
    told = [event["response"] for event in events(heard.removesuffix(b"data: [DONE]\n\n")) if "response" in event]
    assert {each["created_at"] for each in (queued, ended, *told)} == {queued["created_at"]}
    assert story("x")[0].find(b'"created_at":%d' % queued["created_at"]) < 0


async def test_the_input_of_what_waits_is_listed_as_it_will_be(waiting: Waiting, upstream: FakeUpstream) -> None:
    client = waiting.client
    first = (await client.create(background=False, input="Hello!")).json()["id"]
    given = [
        {"role": "user", "content": CITY},
        {"id": "msg_theirs", "type": "message", "role": "user", "content": "And?"},
        {"role": "user", "content": "Well?"},
    ]
    ordered = await client.order(input=given, previous_response_id=first)
    listed = await waiting.listed(ordered)
    assert len(listed) == 5
    assert texts(listed)[2:] == [CITY, "And?", "Well?"]
    assert listed[3]["id"] == "msg_theirs"
    # An id is a cursor, page after page.
    assert await waiting.listed(ordered, after=listed[2]["id"], limit=1) == listed[3:4]
    assert await waiting.listed(ordered, after=listed[3]["id"]) == listed[4:]
    async with BackgroundClient.to(waiting.gateway.url, waiting.gateway.other_key) as other:
        assert (await other.ask("GET", ordered, "/input_items")).status_code == 404
    await waiting.go_on()
    assert (await client.ended(ordered))["status"] == "completed"
    assert await waiting.listed(ordered) == listed


async def test_the_input_of_what_waits_in_a_conversation_begins_with_that(waiting: Waiting) -> None:
    async with waiting.gateway.client() as sdk:
        said: Any = [{"type": "message", "role": "user", "content": "Hello!"}]
        conversation = (await sdk.conversations.create(items=said)).id
    ordered = await waiting.client.order(input=CITY, conversation=conversation)
    assert texts(await waiting.listed(ordered)) == ["Hello!", CITY]


async def test_the_input_of_what_waits_is_listed_without_what_authenticates(waiting: Waiting) -> None:
    tool = {"type": "mcp", "server_label": "hr", "server_url": "https://hr.test", "authorization": "sk-hidden"}
    tools = {"type": "additional_tools", "role": "developer", "tools": [tool]}
    ordered = await waiting.client.order(input=[tools, {"role": "user", "content": CITY}])
    first, second = await waiting.listed(ordered)
    assert first["tools"][0]["server_label"] == "hr"
    assert "sk-hidden" not in str(first)
    assert texts([second]) == [CITY]


async def test_the_input_of_what_will_not_be_stored_is_not_listed(waiting: Waiting) -> None:
    ordered = await waiting.client.order(store=False)
    assert (await waiting.client.ask("GET", ordered, "/input_items")).status_code == 404


async def _is_cancelled_soon(client: BackgroundClient, ordered: str) -> None:
    assert (await client.ask("GET", ordered)).json()["status"] == "queued"
    before = time.monotonic()
    cancelled = await client.ask("POST", ordered, "/cancel")
    assert cancelled.json()["status"] == "cancelled"
    assert time.monotonic() - before < SOON_SECONDS


async def _order_without(waiting: Waiting, gone: str) -> tuple[str, bool]:
    """A run that waits, of which this is gone by now; and whether its own input can be read still."""
    client, gateway = waiting.client, waiting.gateway
    if gone == "parent":
        parent = (await client.create(background=False)).json()["id"]
        ordered = await client.order(input=CITY, previous_response_id=parent)
        assert (await client.ask("DELETE", parent)).status_code == 200
        return ordered, True
    if gone == "conversation":
        async with gateway.client() as sdk:
            conversation = (await sdk.conversations.create()).id
            ordered = await client.order(input=CITY, conversation=conversation)
            await sdk.conversations.delete(conversation)
        return ordered, True
    ordered = await client.order(input=CITY)
    match gone:
        case "body":
            await change_run(gateway, ordered, request=b'{"model":')
        case "seal":
            await change_run(gateway, ordered, request=b"antiphon.v1.of_another_secret")
        case _:
            await change_run(gateway, ordered, api_key_id="key_gone")
    async with asyncio.timeout(10):
        assert await waiting.listed(ordered) == [] or gone == "key"
    return ordered, False


async def test_what_waits_can_be_cancelled(gateway_with: GatewayWith, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.error(429, "rate_limit_exceeded", {"retry-after": "60"}))
    async with gateway_with() as gateway, BackgroundClient.to(gateway.url, gateway.key) as client:
        response_id = await client.order()
        await upstream.request(0)
        await client.status(response_id, "queued")
        assert (await client.ask("POST", response_id, "/cancel")).json()["status"] == "cancelled"
    assert len(upstream.requests) == 1
