"""Every run ends once and says how: also when its process dies, stops or loses it, and its key is revoked."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.administration.actor import Actor
from tests.fakes.background import BackgroundClient, long_story, orphan, until
from tests.fakes.gateway import GatewayProcess, LiveGateway
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import events, frame, response, story
from tests.fakes.upstream import FakeUpstream
from tests.live.conftest import GatewayWith

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]


def unfinished(kind: str) -> bytes:
    return frame(f"response.{kind}", 9, response=response("resp_theirs", "in_progress"))


DONE = b"data: [DONE]\n\n"


@pytest.fixture
async def client(gateway: LiveGateway) -> AsyncIterator[BackgroundClient]:
    async with BackgroundClient.to(gateway.url, gateway.key) as client:
        yield client


@pytest.mark.parametrize("store", [True, False])
async def test_a_run_that_was_begun_by_a_process_that_died_fails_with_what_there_was(
    gateway: LiveGateway, client: BackgroundClient, upstream: FakeUpstream, store: bool
) -> None:
    upstream.enqueue(Reply.sse(long_story("resp_theirs", 3)[:-1], then=Act.STALL))
    async with client.listening(None, store=store) as chunks:
        heard = await until(chunks, b"output_item.done")
        response_id = events(heard)[0]["response"]["id"]
        await orphan(gateway, response_id)
        ended = await client.ended(response_id)
        rest = b"".join([chunk async for chunk in chunks])
    assert (ended["status"], ended["store"], len(ended["output"])) == ("failed", store, 1)
    assert "run_interrupted" in ended["error"]["message"]
    (last,) = events(rest.removesuffix(DONE))
    assert (last["type"], last["response"]) == ("response.failed", ended)
    assert await client.heard(response_id) == heard + rest
    # The process that had it stopped asking, and nobody asked again.
    async with asyncio.timeout(10):
        await upstream.requests[0].closed.wait()
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply.sse([*story("resp_theirs")[:-1], unfinished("completed")]), "completed"),
        (Reply.sse([*story("resp_theirs")[:-1], unfinished("incomplete")]), "incomplete"),
        (Reply.json(200, response("resp_theirs", "queued")), "failed"),
    ],
    ids=["completed", "incomplete", "JSON"],
)
async def test_a_run_ends_though_upstream_ends_it_with_a_response_that_says_it_goes_on(
    client: BackgroundClient, upstream: FakeUpstream, reply: Reply, status: str, store: bool
) -> None:
    upstream.enqueue(reply)
    response_id = await client.order(store=store)
    ended = await client.ended(response_id)
    assert (ended["status"], ended["id"]) == (status, response_id)
    assert (await client.ask("POST", response_id, "/cancel")).status_code == 400
    assert len(upstream.requests) == 1


async def test_a_run_that_nobody_began_is_begun_by_another(gateway_with: GatewayWith, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.error(429, "rate_limit_exceeded", {"retry-after": "3"}))
    async with gateway_with() as gateway, BackgroundClient.to(gateway.url, gateway.key) as client:
        response_id = await client.order(stream=True)
        await upstream.request(0)
        await client.status(response_id, "queued")
        await orphan(gateway, response_id)
        assert (await client.ended(response_id))["status"] == "completed"
    assert len(upstream.requests) == 2


async def test_a_failed_run_in_a_chain_says_nothing_and_loses_nothing(
    gateway: LiveGateway, client: BackgroundClient, upstream: FakeUpstream
) -> None:
    first = (await client.create(background=False, input="My city is Utrecht.")).json()["id"]
    upstream.enqueue(Reply.sse(story("resp_theirs")[:3], then=Act.STALL))
    failed = await client.order(input="This will fail.", previous_response_id=first)
    await client.status(failed, "in_progress")
    await upstream.request(1, timeout=30)
    await orphan(gateway, failed)
    assert (await client.ended(failed))["status"] == "failed"
    after = await client.create(background=False, input="What is my city?", previous_response_id=failed)
    assert after.json()["output"][0]["content"][0]["text"] == "Your city is Utrecht."
    assert b"This will fail." not in upstream.requests[-1].body


@pytest.mark.parametrize(("change", "told"), [("revoke", b"revoked"), ("block", b"revoked"), ("model", b"access")])
@pytest.mark.slow
async def test_a_run_whose_key_may_no_more_when_it_begins_fails(
    gateway_with: GatewayWith, upstream: FakeUpstream, change: str, told: bytes
) -> None:
    upstream.enqueue(Reply.error(429, "rate_limit_exceeded", {"retry-after": "6"}))
    async with gateway_with() as gateway, BackgroundClient.to(gateway.url, gateway.key) as client:
        response_id = await client.order()
        await upstream.request(0)
        services, actor = gateway.app.state.services, Actor("test")
        runs = services.stored_history._runs
        (key,) = [key for key in await services.keys.list() if key.name == "live"]
        if change == "model":
            await services.keys.update(actor, key.id, {"policy": {"models": ["other"]}}, version=1)
        else:
            await getattr(services.keys, change)(actor, key.id)
        async with asyncio.timeout(20):
            while (run := await runs.find(key.project_id, response_id)) and run.status != "failed":
                await asyncio.sleep(0.05)
        assert run is not None
        assert told in run.body
    assert len(upstream.requests) == 1


async def test_a_log_that_grows_too_large_ends_its_run(gateway_with: GatewayWith, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse(long_story("resp_theirs", 2000)))
    async with (
        gateway_with(relay={"max_answer_bytes": 20_000}) as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as client,
    ):
        ended = await client.ended(await client.order(stream=True))
    assert ended["status"] == "failed"
    assert "upstream_too_large" in ended["error"]["message"]


async def test_a_conversation_is_continued_one_run_after_the_other(
    gateway: LiveGateway, client: BackgroundClient, upstream: FakeUpstream
) -> None:
    async with gateway.client() as sdk:
        conversation = await sdk.conversations.create()
        go = asyncio.Event()
        frames = story("resp_theirs", "Noted.")
        upstream.enqueue(Reply.held(frames[:-1], go, frames[-1:]))
        first = await client.order(conversation=conversation.id, input="My city is Utrecht.")
        await client.status(first, "in_progress")
        await upstream.request(0, timeout=30)
        refused = await client.create(conversation=conversation.id, input="What is my city?")
        assert refused.json()["error"]["code"] == "conversation_locked"
        go.set()
        assert (await client.ended(first))["conversation"] == {"id": conversation.id}
        second = await client.order(conversation=conversation.id, input="What is my city?")
        ended = await client.ended(second)
        assert ended["output"][0]["content"][0]["text"] == "Your city is Utrecht."
        kept = await sdk.conversations.items.list(conversation.id)
        assert len(kept.data) == 4
        upstream.enqueue(Reply.sse(frames[:3], then=Act.STALL))
        third = await client.order(conversation=conversation.id, input="Never mind.")
        await client.status(third, "in_progress")
        await upstream.request(2, timeout=30)
        assert (await client.ask("POST", third, "/cancel")).json()["status"] == "cancelled"
        assert len((await sdk.conversations.items.list(conversation.id)).data) == 4
        after = await client.create(background=False, conversation=conversation.id, input="What is my city?")
        assert after.status_code == 200


@pytest.mark.slow
async def test_a_stop_ends_what_was_begun_and_leaves_what_waits(upstream: FakeUpstream, tmp_path: Path) -> None:
    environment = {
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "sk-upstream-one",
        "ANTIPHON_DRAIN_SECONDS": "1",
        "ANTIPHON_BACKGROUND_RUNS": "1",
    }
    process = GatewayProcess(tmp_path, environment).start()
    upstream.enqueue(Reply.sse(long_story("resp_theirs", 3)[:-1], then=Act.STALL))
    try:
        async with BackgroundClient.to(process.url, process.key) as client:
            async with client.listening(None) as chunks:
                begun = events(await until(chunks, b"output_item.done"))[0]["response"]["id"]
                waiting = await client.order()
                os.kill(process.pid, signal.SIGTERM)
                rest = b"".join([chunk async for chunk in chunks])
            running = process._process
            assert running is not None
            assert await asyncio.to_thread(running.wait, 30) == 0
            process.start()
            ended = await client.ended(begun)
            assert (ended["status"], len(ended["output"])) == ("failed", 1)
            assert "gateway_shutdown" in ended["error"]["message"]
            assert (await client.heard(begun)).endswith(rest or DONE)
            assert (await client.ended(waiting))["status"] == "completed"
    finally:
        process.kill()
    assert len(upstream.requests) == 2


@pytest.mark.slow
async def test_after_a_crash_the_only_process_ends_what_it_had_begun_at_once(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    environment = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-upstream-one"}
    process = GatewayProcess(tmp_path, environment).start()
    upstream.enqueue(Reply.sse(long_story("resp_theirs", 3)[:-1], then=Act.STALL))
    try:
        async with BackgroundClient.to(process.url, process.key) as client:
            async with client.listening(None) as chunks:
                heard = await until(chunks, b"output_item.done")
                process.kill()
            begun = events(heard)[0]["response"]["id"]
            process.start()
            # The lease of a process of several is 15 s.
            ended = await client.ended(begun, 10)
            assert (ended["status"], len(ended["output"])) == ("failed", 1)
            assert (await client.heard(begun)).startswith(heard)
    finally:
        process.kill()
    assert len(upstream.requests) == 1
