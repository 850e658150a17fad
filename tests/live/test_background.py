"""Responses in the background: ordered, looked at, heard, cancelled, deleted; by the SDK and by bare HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.fakes.background import BackgroundClient, long_story, until
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import events, response, story
from tests.fakes.upstream import FakeUpstream
from tests.live.conftest import GatewayWith

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

STATE = {"previous_response_id", "conversation", "background", "background_options"}


@pytest.fixture
async def client(gateway: LiveGateway) -> AsyncIterator[BackgroundClient]:
    async with BackgroundClient.to(gateway.url, gateway.key) as client:
        yield client


async def test_a_response_is_queued_at_once_and_completed_later(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with gateway.client() as sdk:
        made = await sdk.responses.create(
            model="demo", input="Hello!", background=True, extra_body={"background_options": {}}
        )
        assert (made.status, made.background, made.output, made.usage) == ("queued", True, [], None)
        assert made.id.startswith("resp_")
        found = made
        async with asyncio.timeout(20):
            while found.status in ("queued", "in_progress"):
                found = await sdk.responses.retrieve(made.id)
        assert (found.id, found.status, found.background) == (made.id, "completed", True)
        assert found.output_text
        assert found.usage is not None
        assert found.usage.output_tokens > 0
        assert len((await sdk.responses.input_items.list(made.id)).data) == 1
        after = await sdk.responses.create(model="demo", input="And?", previous_response_id=made.id)
        assert after.previous_response_id == made.id
        await sdk.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(made.id)
    asked, chained = [request.json for request in upstream.requests]
    assert asked["stream"] is True
    assert asked["store"] is False
    assert STATE.isdisjoint(asked)
    assert len(chained["input"]) == 3  # type: ignore[arg-type]  # JSON


async def test_a_stream_is_the_responses_own_from_beginning_to_end(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.sse(story("resp_theirs")))
    async with gateway.client() as sdk:
        stream = await sdk.responses.create(model="demo", input="Hello!", background=True, stream=True)
        heard: list[Any] = [event async for event in stream]
    assert [event.type for event in heard[:2]] == ["response.created", "response.queued"]
    assert [event.sequence_number for event in heard] == list(range(len(heard)))
    ids = {event.response.id for event in heard if getattr(event, "response", None)}
    assert len(ids) == 1
    assert ids != {"resp_theirs"}
    assert (heard[0].response.status, heard[-1].type) == ("queued", "response.completed")
    assert heard[-1].response.background is True


async def test_a_client_that_leaves_at_once_loses_nothing(client: BackgroundClient) -> None:
    ids = [await client.order(stream=True) for _ in range(10)]
    assert {(await client.ended(response_id))["status"] for response_id in ids} == {"completed"}


async def test_what_is_not_stored_is_kept_for_a_while_and_never_chained(
    client: BackgroundClient, upstream: FakeUpstream
) -> None:
    response_id = await client.order(store=False)
    ended = await client.ended(response_id)
    assert (ended["status"], ended["store"]) == ("completed", False)
    refused = await client.create(background=False, previous_response_id=response_id)
    assert refused.json()["error"]["code"] == "previous_response_not_found"
    assert (await client.ask("GET", response_id, "/input_items")).status_code == 404
    assert (await client.ask("DELETE", response_id)).json()["deleted"] is True
    assert (await client.ask("GET", response_id)).status_code == 404


async def test_cancelling_closes_upstream_and_keeps_what_there_was(
    client: BackgroundClient, upstream: FakeUpstream
) -> None:
    frames = long_story("resp_theirs", 3)
    upstream.enqueue(Reply.sse(frames[:-1], then=Act.STALL))
    async with client.listening(None) as chunks:
        heard = await until(chunks, b"output_item.done")
        response_id = events(heard)[0]["response"]["id"]
        before = time.monotonic()
        cancelled = await client.ask("POST", response_id, "/cancel")
        assert cancelled.status_code == 200
        async with asyncio.timeout(10):
            await upstream.requests[0].closed.wait()
        assert time.monotonic() - before < 10
        rest = b"".join([chunk async for chunk in chunks])
    found = cancelled.json()
    assert (found["status"], len(found["output"]), found.get("usage")) == ("cancelled", 1, None)
    last = events(rest.removesuffix(b"data: [DONE]\n\n"))[-1]
    assert (last["type"], last["response"]) == ("response.failed", found)
    assert (await client.ask("POST", response_id, "/cancel")).json() == found
    assert (await client.ask("GET", response_id)).json() == found


async def test_only_a_response_in_the_background_is_cancelled_while_it_runs(client: BackgroundClient) -> None:
    whole = (await client.create(background=False)).json()["id"]
    refused = await client.ask("POST", whole, "/cancel")
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        400,
        "Cannot cancel a synchronous response.",
    )
    response_id = await client.order()
    await client.ended(response_id)
    refused = await client.ask("POST", response_id, "/cancel")
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "Cannot cancel a completed response.")
    assert (await client.ask("POST", "resp_unknown", "/cancel")).status_code == 404
    assert (await client.ask("DELETE", response_id)).status_code == 200
    assert (await client.ask("POST", response_id, "/cancel")).status_code == 404


async def test_a_response_that_is_being_made_is_neither_deleted_nor_continued(
    client: BackgroundClient, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.sse(story("resp_theirs")[:3], then=Act.STALL))
    response_id = await client.order()
    await client.status(response_id, "in_progress")
    refused = await client.ask("DELETE", response_id)
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "Cannot delete an in-flight response.")
    for background in (True, False):
        refused = await client.create(background=background, previous_response_id=response_id)
        error = refused.json()["error"]
        assert (refused.status_code, error["param"]) == (400, "previous_response_id")
        assert "in_progress" in error["message"]
    assert (await client.ask("POST", response_id, "/cancel")).json()["status"] == "cancelled"
    assert (await client.ask("DELETE", response_id)).status_code == 200


async def test_a_cancellation_and_the_end_agree_on_one_outcome(
    client: BackgroundClient, upstream: FakeUpstream
) -> None:
    outcomes = set()
    for number in range(20):
        go = asyncio.Event()
        frames = story("resp_theirs")
        upstream.enqueue(Reply.held(frames[:-1], go, frames[-1:]))
        response_id = await client.order()
        await upstream.request(number)
        cancelling = asyncio.create_task(client.ask("POST", response_id, "/cancel"))
        if number % 2:
            await asyncio.sleep(0.001 * number)
        go.set()
        answer = await cancelling
        ended = await client.ended(response_id)
        outcomes.add(ended["status"])
        if answer.status_code == 200:
            assert answer.json() == ended
            assert ended["status"] == "cancelled"
        else:
            assert answer.json()["error"]["message"] == "Cannot cancel a completed response."
            assert ended["status"] == "completed"
        assert await client.ended(response_id) == ended
    assert outcomes <= {"completed", "cancelled"}


async def test_what_cannot_be_answered_is_refused_before_it_is_queued(
    client: BackgroundClient, upstream: FakeUpstream
) -> None:
    for body, status in (
        ({"previous_response_id": "resp_unknown"}, 400),
        ({"input": [{"type": "item_reference", "id": "msg_unknown"}]}, 404),
        ({"conversation": "conv_unknown"}, 404),
        ({"temperature": 9}, 400),
    ):
        assert (await client.create(**body)).status_code == status
    assert upstream.requests == []


async def test_an_upstream_that_refuses_makes_it_fail(client: BackgroundClient, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.error(400, "invalid_prompt", message="Not this."))
    ended = await client.ended(await client.order())
    assert (ended["status"], ended["error"]) == ("failed", {"code": "invalid_prompt", "message": "Not this."})
    upstream.enqueue(Reply.sse(story("resp_theirs")[:4], then=Act.CLOSE))
    ended = await client.ended(await client.order())
    assert ended["status"] == "failed"
    assert "upstream_disconnected" in ended["error"]["message"]
    upstream.enqueue(Reply.json(200, {"not": "a response"}))
    assert (await client.ended(await client.order()))["status"] == "failed"


async def test_upstreams_whole_answer_will_do(client: BackgroundClient, upstream: FakeUpstream) -> None:
    whole = events(story("resp_theirs")[-1])[0]["response"]
    upstream.enqueue(Reply.json(200, whole), Reply.json(200, whole))
    ended = await client.ended(await client.order())
    assert (ended["status"], ended["output"]) == ("completed", whole["output"])
    streamed = await client.order(stream=True)
    heard = events((await client.heard(streamed)).removesuffix(b"data: [DONE]\n\n"))
    assert [event["type"] for event in heard[:2]] == ["response.created", "response.queued"]
    assert [event["type"] for event in heard if "item" in event or event["type"] == "response.completed"][-2:] == [
        "response.output_item.done",
        "response.completed",
    ]


@pytest.mark.slow
async def test_a_key_that_rests_is_waited_for(gateway_with: GatewayWith, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.error(429, "rate_limit_exceeded", {"retry-after": "1"}))
    async with (
        gateway_with(relay={"cool_down_seconds": 1}) as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as client,
    ):
        first = await client.order(stream=True)
        await upstream.request(0)
        second = await client.order()
        assert {(await client.ended(response_id))["status"] for response_id in (first, second)} == {"completed"}
    assert len(upstream.requests) == 3


@pytest.mark.slow
async def test_a_key_that_rests_is_not_waited_for_for_ever(gateway_with: GatewayWith, upstream: FakeUpstream) -> None:
    upstream.respond = lambda _: Reply.error(429, "rate_limit_exceeded", {"retry-after": "1"}, "Slow down.")
    async with (
        gateway_with(background={"background_wait_seconds": 0.5}) as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as client,
    ):
        ended = await client.ended(await client.order())
    # Upstream's own words, or ours where the key still rests by some milliseconds: runs wait by whole seconds.
    assert (ended["status"], ended["error"]["code"]) == ("failed", "rate_limit_exceeded")
    assert ended["error"]["message"].startswith(("Slow down.", "Rate limit reached: every upstream account"))
    assert 1 <= len(upstream.requests) <= 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_never_fits_fails_at_once_and_delays_nobody(
    gateway_with: GatewayWith, upstream: FakeUpstream, stream: bool
) -> None:
    said = "Request too large for demo on tokens per min (TPM): Limit 30000, Requested 50000."
    upstream.enqueue(Reply.error(429, "rate_limit_exceeded", {"retry-after": "60"}, said))
    async with gateway_with() as gateway, BackgroundClient.to(gateway.url, gateway.key) as client:
        ended = await client.ended(await client.order(stream=stream))
        assert (ended["status"], ended["error"]) == ("failed", {"code": "rate_limit_exceeded", "message": said})
        assert (await client.ended(await client.order()))["status"] == "completed"
    assert len(upstream.requests) == 2


async def test_there_is_a_limit_to_what_runs_and_to_what_waits(
    gateway_with: GatewayWith, upstream: FakeUpstream
) -> None:
    upstream.respond = lambda _: Reply.sse(story("resp_theirs")[:3], then=Act.STALL)
    async with (
        gateway_with(background={"background_runs": 1, "background_queue": 2}) as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as client,
    ):
        first, second = await client.order(), await client.order()
        refused = await client.create()
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(refused.headers["retry-after"]) > 0
        await client.status(first, "in_progress")
        assert (await client.ask("GET", second)).json()["status"] == "queued"
        # One that only ends needs no room.
        assert (await client.ask("POST", second, "/cancel")).json()["status"] == "cancelled"
        third = await client.order()
        assert (await client.ask("POST", first, "/cancel")).json()["status"] == "cancelled"
        await client.status(third, "in_progress")
        # Upstream is asked once that is committed.
        await upstream.request(1, timeout=30)


async def test_an_upstream_that_keeps_the_state_runs_it_itself(sqlite_url: str, upstream: FakeUpstream) -> None:
    queued = {**response("resp_theirs", "queued"), "background": True}
    upstream.enqueue(Reply.json(200, queued))
    async with (
        running_gateway(sqlite_url, [upstream_settings(upstream.url, state="upstream")]) as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as client,
    ):
        made = (await client.create(background_options={"completion_window": "2h"})).json()
        assert (made["id"], made["status"], made["background"]) == ("resp_theirs", "queued", True)
        running, ended = {**queued, "status": "in_progress"}, {**queued, "status": "cancelled"}
        upstream.enqueue(*[Reply.json(200, told) for told in (running, running, ended, ended)])
        assert (await client.ask("GET", "resp_theirs")).json() == running
        assert (await client.ask("POST", "resp_theirs", "/cancel")).json() == ended
        assert (await client.ask("GET", "resp_theirs")).json() == ended
        upstream.enqueue(Reply.error(404, message="Gone."))
        assert (await client.ask("GET", "resp_theirs")).status_code == 404
        async with BackgroundClient.to(gateway.url, gateway.other_key) as other:
            assert (await other.ask("GET", "resp_theirs")).status_code == 404
    paths = [(request.method, request.path) for request in upstream.requests]
    look = ("GET", "/v1/responses/resp_theirs")
    assert paths == [("POST", "/v1/responses"), look, look, ("POST", f"{look[1]}/cancel"), look, look]
    asked = upstream.requests[0].json
    assert asked["background"] is True
    assert asked["background_options"] == {"completion_window": "2h"}
