"""Whose background response is made next, who waits for it without cost, and who is let go when the gateway stops."""

import asyncio

import httpx2
import orjson
import pytest

from tests.fakes.background import BackgroundClient, long_story, until
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream, Recorded
from tests.live.conftest import GatewayWith

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


def never_ends_mass(request: Recorded) -> Reply:
    """Begins what is asked with this word, and never ends it."""
    events = long_story(f"resp_{len(request.body)}", 3)
    return Reply.sse(events[:-1], then=Act.STALL) if b"mass" in request.body else Reply.sse(events)


async def test_another_project_begins_at_once_however_many_orders_one_has(
    gateway_with: GatewayWith, upstream: FakeUpstream
) -> None:
    upstream.respond = never_ends_mass
    async with (
        gateway_with(background={"background_runs": 4}) as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as client,
        BackgroundClient.to(gateway.url, gateway.other_key) as other,
    ):
        for _ in range(12):
            await client.order(input="mass")
        assert (await other.ended(await other.order(input="one")))["status"] == "completed"
        assert sum(b"mass" in request.body for request in upstream.requests) == 3


@pytest.mark.slow_on_postgresql
async def test_orders_in_a_conversation_are_done_in_their_order(database_url: str, upstream: FakeUpstream) -> None:
    async with (
        running_gateway(database_url, [upstream_settings(upstream.url, "sk-upstream-one")]) as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as client,
    ):
        conversation = await new_conversation(gateway)
        # The first one's account is limited, so that it pauses, and the second finds the conversation free.
        upstream.enqueue(Reply.error(429, "rate_limit_exceeded", {"retry-after": "3"}))
        first = await client.order(input="FIRST", conversation=conversation)
        await upstream.request(0)
        await client.status(first, "queued")
        orders = [await client.order(input=text, conversation=conversation) for text in ("SECOND", "THIRD")]
        for response_id in (first, *orders):
            assert (await client.ended(response_id))["status"] == "completed"
    asked = [orjson.loads(request.body)["input"] for request in upstream.requests]
    # What has nothing before it is sent as it was.
    assert [said if isinstance(said, str) else said[-1]["content"] for said in asked] == [
        "FIRST",
        "FIRST",
        "SECOND",
        "THIRD",
    ]


async def test_a_stopping_gateway_lets_go_of_who_listens_to_what_nobody_has_begun(
    gateway_with: GatewayWith, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.error(429, "rate_limit_exceeded", {"retry-after": "600"}))
    async with (
        gateway_with() as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as client,
        client.listening(None) as chunks,
    ):
        await until(chunks, b"response.queued")
        await upstream.request(0)
        registry = gateway.app.state.services.registry
        async with asyncio.timeout(30):
            draining = asyncio.create_task(registry.drain(600, 0))
            rest = b"".join([chunk async for chunk in chunks])
            await draining
        assert b"event:" not in rest


async def new_conversation(gateway: LiveGateway) -> str:
    async with httpx2.AsyncClient() as http:
        made = await http.post(
            f"{gateway.url}/v1/conversations", json={}, headers={"authorization": f"Bearer {gateway.key}"}
        )
        return str(made.json()["id"])
