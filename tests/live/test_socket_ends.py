"""How a WebSocket connection ends: by its client, by a limit, or with the process; and what becomes of its turns."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from openai import NotFoundError

from app.ids import new_id
from tests.fakes.gateway import GatewayProcess, LiveGateway
from tests.fakes.replies import Act, Reply
from tests.fakes.socket_client import SECONDS, SocketClient
from tests.fakes.streams import story
from tests.fakes.upstream import FakeUpstream, Recorded
from tests.live.conftest import GatewayWith

pytestmark = pytest.mark.live

STALLED = Reply.sse(story("resp_stalled")[:2], then=Act.STALL)


@pytest.mark.slow
async def test_a_client_that_reads_nothing_is_cut(gateway_with: GatewayWith, upstream: FakeUpstream) -> None:
    begun, *_ = frames = story(new_id("resp"))
    delta = frames[2].replace(b"Once", b"x" * 1_000_000)
    upstream.enqueue(Reply.sse([begun, *[delta] * 60], then=Act.STALL))
    async with gateway_with(server={"write_timeout_seconds": 1}) as gateway, SocketClient.to(gateway) as client:
        client.connection.transport.pause_reading()
        await client.create(store=False)
        request = await upstream.request()
        await asyncio.wait_for(request.closed.wait(), SECONDS)


async def test_an_idle_connection_is_closed(gateway_with: GatewayWith) -> None:
    async with (
        gateway_with(server={"websocket_idle_seconds": 1}) as gateway,
        SocketClient.to(gateway) as client,
    ):
        await client.respond()
        assert (await client.closed())[0] == 1001


async def test_a_connection_ends_at_its_limit_when_its_turn_is_over(
    gateway_with: GatewayWith, upstream: FakeUpstream
) -> None:
    go = asyncio.Event()

    async def reply(_: Recorded) -> Reply:
        await go.wait()
        return Reply.sse(story(new_id("resp")))

    upstream.respond = reply
    async with gateway_with(server={"websocket_seconds": 1}) as gateway, SocketClient.to(gateway) as client:
        await client.create()
        await client.create(stream_id="late")
        await upstream.request(1)
        await client.create(input="queued", stream_id="late")
        await asyncio.sleep(1.2)
        go.set()
        ends = [(await client.rest())[-1] for _ in range(4)]
        assert sorted(end["type"] for end in ends) == ["error", "error", "response.completed", "response.completed"]
        assert [end["error"]["code"] for end in ends if end["type"] == "error"] == [
            "websocket_connection_limit_reached",
            "websocket_connection_limit_reached",
        ]
        assert "stream_id" not in ends[-1]
        assert (await client.closed())[0] == 1001


async def test_a_client_that_closes_cancels_what_runs_and_what_waits(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(STALLED, STALLED)
    async with SocketClient.to(sqlite_gateway) as client:
        for _ in range(2):
            await client.create()
        assert (await client.event())["type"] == "response.created"
    request = await upstream.request()
    await asyncio.wait_for(request.closed.wait(), SECONDS)
    async with sqlite_gateway.client() as sdk, asyncio.timeout(SECONDS):
        statuses: list[str | None] = []
        while not statuses:
            with suppress(NotFoundError):
                statuses.append((await sdk.responses.retrieve("resp_stalled")).status)
            await asyncio.sleep(0.02)
    assert statuses == ["cancelled"]
    assert len(upstream.requests) == 1


@pytest.mark.slow
async def test_a_shutdown_lets_turns_finish_and_closes_idle_connections_at_once(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    go = asyncio.Event()

    async def reply(_: Recorded) -> Reply:
        await go.wait()
        return Reply.sse(story(new_id("resp")))

    upstream.respond = reply
    environment = {
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "sk-upstream-one",
        "ANTIPHON_DRAIN_SECONDS": "10",
    }
    process = GatewayProcess(tmp_path, environment).start()
    gateway = LiveGateway(process.url, process.key, "", None, None)  # type: ignore[arg-type] # a process has no app here
    try:
        async with SocketClient.to(gateway) as idle, SocketClient.to(gateway) as busy:
            await busy.create()
            await upstream.request()
            os.kill(process.pid, signal.SIGTERM)
            assert (await idle.closed())[0] == 1012
            refused = await busy.turn(stream_id="new")
            assert (refused["status"], refused["error"]["code"]) == (503, "server_is_overloaded")
            go.set()
            assert (await busy.rest())[-1]["type"] == "response.completed"
            assert (await busy.closed())[0] == 1012
        running = process._process
        assert running is not None
        assert await asyncio.to_thread(running.wait, SECONDS) == 0
        assert "Traceback" not in process.log.read_text() + process.banner.read_text()
    finally:
        process.kill()
