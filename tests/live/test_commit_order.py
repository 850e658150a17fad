"""Invariant 3: what a client has been told is committed, and what cannot be committed is not told."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from openai import NotFoundError

from app.ids import new_id
from tests.fakes.commits import held_commits, next_write
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.raw_client import calling
from tests.fakes.replies import Reply
from tests.fakes.streams import events, item, response, story
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

_SECONDS = 30.0
_BODY = {"model": "demo", "input": "Hello!"}


@pytest.fixture
async def impatient(database_url: str, upstream: FakeUpstream) -> AsyncIterator[LiveGateway]:
    """A gateway that waits for a commit for three seconds."""
    upstreams = [upstream_settings(upstream.url, "sk-upstream-one")]
    async with running_gateway(database_url, upstreams, storage={"commit_timeout_seconds": 3}) as gateway:
        yield gateway


async def test_a_terminal_event_waits_for_its_commit(
    gateway: LiveGateway, database_url: str, upstream: FakeUpstream
) -> None:
    frames = story(new_id("resp"))
    upstream.enqueue(Reply.sse(frames))
    response_id = events(frames[0])[0]["response"]["id"]
    handed = next_write(gateway)
    async with (
        gateway.client() as client,
        held_commits(database_url) as release,
        calling(gateway.url, gateway.key) as call,
    ):
        await call.until(frames[-2])
        await asyncio.wait_for(handed.wait(), _SECONDS)
        with pytest.raises(TimeoutError):
            await call.chunk(0.5)
        assert call.received == b"".join(frames[:-1])
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(response_id)
        release()
        await call.until(frames[-1])
        assert (await client.responses.retrieve(response_id)).status == "completed"
        chained = await client.responses.create(model="demo", input="And now?", previous_response_id=response_id)
        assert chained.previous_response_id == response_id
        assert await call.rest() == b"".join(frames)


async def test_a_whole_answer_waits_for_its_commit(
    gateway: LiveGateway, database_url: str, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.json(200, response("resp_whole", "completed", [item("Hi")])))
    handed = next_write(gateway)
    async with (
        gateway.client() as client,
        held_commits(database_url) as release,
        calling(gateway.url, gateway.key, stream=False) as call,
    ):
        await asyncio.wait_for(handed.wait(), _SECONDS)
        with pytest.raises(TimeoutError):
            await call.chunk(0.5)
        assert call.status == 0
        release()
        assert b"resp_whole" in await call.rest()
        assert (await client.responses.retrieve("resp_whole")).output_text == "Hi"


async def test_a_stream_whose_commit_is_late_ends_in_a_storage_error(
    impatient: LiveGateway, database_url: str, upstream: FakeUpstream
) -> None:
    frames = story(new_id("resp"))
    upstream.enqueue(Reply.sse(frames))
    async with held_commits(database_url), calling(impatient.url, impatient.key) as call:
        body = await call.rest()
    assert body.startswith(b"".join(frames[:-1]))
    assert b"response.completed" not in body
    failed = events(body)[-1]
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 5)
    assert "storage_unavailable" in failed["response"]["error"]["message"]
    async with impatient.client() as client:
        assert (await client.responses.create(model="demo", input="Better?")).status == "completed"


async def test_a_whole_answer_whose_commit_is_late_is_a_storage_error(
    impatient: LiveGateway, database_url: str
) -> None:
    async with httpx.AsyncClient(base_url=impatient.base_url, headers=impatient.headers(), timeout=_SECONDS) as client:
        async with held_commits(database_url):
            answer = await client.post("/responses", json=_BODY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
        assert (await client.post("/responses", json=_BODY)).status_code == 200


async def test_what_is_not_stored_waits_for_no_commit(
    gateway: LiveGateway, database_url: str, upstream: FakeUpstream
) -> None:
    frames = story(new_id("resp"))
    upstream.enqueue(Reply.sse(frames))
    async with held_commits(database_url), calling(gateway.url, gateway.key, store=False) as call:
        assert await call.rest() == b"".join(frames)


async def test_a_chain_goes_on_at_once_from_every_terminal_event(gateway: LiveGateway) -> None:
    async with gateway.client() as client:
        for number in range(100):
            async with calling(gateway.url, gateway.key, input=f"My city is Utrecht{number}.") as call:
                body = await call.until(b"event: response.completed\n")
                while not body.endswith(b"\n\n"):
                    assert await call.chunk()
                    body = call.received
                told = events(body)[-1]["response"]["id"]
                answer = await client.responses.create(
                    model="demo", input="What is my city?", previous_response_id=told
                )
                assert answer.output_text == f"Your city is Utrecht{number}."
