"""A run's log is heard from any event on, by anyone of the project, as often as they like: always the same bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator

import openai
import pytest

from tests.fakes.background import BackgroundClient, long_story, until
from tests.fakes.databases import sqlite_first
from tests.fakes.gateway import LiveGateway
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import events, frame
from tests.fakes.upstream import FakeUpstream
from tests.live.conftest import GatewayWith

pytestmark = pytest.mark.live

DONE = b"data: [DONE]\n\n"
DELTAS = 195


@pytest.fixture
async def client(gateway: LiveGateway) -> AsyncIterator[BackgroundClient]:
    async with BackgroundClient.to(gateway.url, gateway.key) as client:
        yield client


def frames_of(heard: bytes) -> list[bytes]:
    """The frames of a whole stream; the last is the terminal event's."""
    assert heard.endswith(DONE)
    return [frame + b"\n\n" for frame in heard.removesuffix(DONE).split(b"\n\n")[:-1]]


@sqlite_first
@pytest.mark.slow
async def test_a_resume_from_any_event_is_exactly_what_follows_it(
    client: BackgroundClient, upstream: FakeUpstream
) -> None:
    go = asyncio.Event()
    story = long_story("resp_theirs", DELTAS)
    upstream.enqueue(Reply.held(story[:100], go, story[100:]))
    async with client.listening(None) as live:
        heard = await until(live, b'"sequence_number":99,')
        response_id = events(heard)[0]["response"]["id"]
        async with asyncio.TaskGroup() as group:
            # Each while it runs: from before, at and after what is there.
            running = [group.create_task(client.heard(response_id, after)) for after in range(202)]
            await asyncio.sleep(0.2)
            go.set()
        heard += b"".join([chunk async for chunk in live])
    frames = frames_of(heard)
    assert len(frames) == 201
    numbers = [event["sequence_number"] for event in events(b"".join(frames))]
    assert numbers == list(range(201))
    assert (await client.heard(response_id)) == heard
    for place, task in enumerate(running):
        assert task.result() == b"".join(frames[place + 1 :]) + DONE
    for after in range(210):
        assert await client.heard(response_id, after) == b"".join(frames[after + 1 :]) + DONE
    assert len(upstream.requests) == 1


async def test_the_sdk_goes_on_where_it_stopped(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse(long_story("resp_theirs", 20), pause=0.01))
    async with gateway.client() as sdk:
        stream = await sdk.responses.create(model="demo", input="Hello!", background=True, stream=True)
        seen = [await anext(stream) for _ in range(5)]
        await stream.close()
        response_id = seen[0].response.id  # type: ignore[union-attr]  # the first event has one
        rest = await sdk.responses.retrieve(response_id, stream=True, starting_after=seen[-1].sequence_number)
        heard = [event async for event in rest]
    assert [event.sequence_number for event in (*seen, *heard)] == list(range(26))
    assert heard[-1].type == "response.completed"


async def test_only_a_run_that_was_streamed_can_be_heard_again(gateway: LiveGateway, client: BackgroundClient) -> None:
    whole = await client.order()
    await client.ended(whole)
    foreground = (await client.create(background=False)).json()["id"]
    for response_id in (whole, foreground):
        refused = await client.ask("GET", response_id, stream="true")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "stream")
    assert (await client.ask("GET", "resp_unknown", stream="true")).status_code == 404
    streamed = await client.order(stream=True)
    for cursor in ("x", "1.5", "", "-1", "9" * 30):
        refused = await client.ask("GET", streamed, stream="true", starting_after=cursor)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "starting_after")
    heard = await client.ask("GET", streamed, stream="true", include_obfuscation="false")
    assert heard.text.endswith(DONE.decode())
    async with gateway.client(gateway.other_key) as theirs:
        with pytest.raises(openai.NotFoundError):
            await theirs.responses.retrieve(streamed, stream=True)


async def test_a_log_is_kept_for_its_time_and_the_response_longer(
    gateway_with: GatewayWith, upstream: FakeUpstream
) -> None:
    async with (
        gateway_with(background={"background_keep_seconds": 1}, storage={"purge_interval_seconds": 0.1}) as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as client,
    ):
        stored, passing = await client.order(stream=True), await client.order(stream=True, store=False)
        await client.ended(stored)
        async with asyncio.timeout(20):
            while (await client.ask("GET", passing)).status_code == 200:
                await asyncio.sleep(0.05)
            while (await client.ask("GET", stored, stream="true")).status_code == 200:
                await asyncio.sleep(0.05)
        refused = await client.ask("GET", stored, stream="true")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "stream")
        assert (await client.ask("GET", stored)).json()["status"] == "completed"
        assert (await client.ask("POST", stored, "/cancel")).status_code == 400


async def test_a_reader_that_stops_reading_is_cut_and_the_run_goes_on(
    gateway_with: GatewayWith, upstream: FakeUpstream
) -> None:
    story = long_story("resp_theirs", 1)
    # More than the sockets between them hold.
    large = [frame("response.output_text.delta", 4, item_id="msg_1", delta="x" * 500_000)] * 30
    upstream.enqueue(Reply.sse([*story[:3], *large, *story[3:]]))
    async with (
        gateway_with(server={"write_timeout_seconds": 1.5}) as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as client,
    ):
        response_id = await client.order(stream=True)
        await client.ended(response_id)
        stalled = socket.socket()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.setblocking(False)
        loop = asyncio.get_running_loop()
        host, port = gateway.url.removeprefix("http://").split(":")
        with stalled:
            await loop.sock_connect(stalled, (host, int(port)))
            request = f"GET /v1/responses/{response_id}?stream=true HTTP/1.1\r\nhost: x\r\n"
            await loop.sock_sendall(stalled, f"{request}authorization: Bearer {gateway.key}\r\n\r\n".encode())
            registry = gateway.app.state.services.registry
            async with asyncio.timeout(20):
                while not registry._listeners:
                    await asyncio.sleep(0.01)
                while registry._listeners:
                    await asyncio.sleep(0.05)
        assert len(frames_of(await client.heard(response_id))) == 37


async def test_a_deletion_ends_what_is_being_heard(client: BackgroundClient, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse([b"".join(long_story("resp_theirs", 2000))]))
    response_id = await client.order(stream=True)
    await client.ended(response_id)
    whole = await client.heard(response_id)

    async def hear() -> bytes:
        try:
            return await client.heard(response_id)
        except AssertionError:
            return b""

    async with asyncio.TaskGroup() as group:
        hearing = [group.create_task(hear()) for _ in range(20)]
        await asyncio.sleep(0.01)
        deleted = await client.ask("DELETE", response_id)
    assert deleted.status_code == 200
    assert all(whole.startswith(task.result()) for task in hearing)
    assert (await client.ask("GET", response_id, stream="true")).status_code == 404


async def test_a_reader_hears_that_it_is_not_forgotten(gateway_with: GatewayWith, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse(long_story("resp_theirs", 1)[:3], then=Act.STALL))
    async with (
        gateway_with(relay={"keep_alive_seconds": 0.2}) as gateway,
        BackgroundClient.to(gateway.url, gateway.key) as client,
        client.listening(None) as chunks,
    ):
        response_id = events(await until(chunks, b": keep-alive\n\n"))[0]["response"]["id"]
        assert (await client.ask("POST", response_id, "/cancel")).status_code == 200
