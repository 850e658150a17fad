"""A client that leaves ends its call: upstream's connection closes, what was finished is kept, nothing is left over."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from openai import AsyncOpenAI, NotFoundError
from sqlalchemy import create_engine, make_url, text

from app.ids import new_id
from tests.fakes.commits import held_commits, next_write
from tests.fakes.gateway import LiveGateway
from tests.fakes.raw_client import CHAT, calling
from tests.fakes.replies import Act, Reply, Step
from tests.fakes.streams import frame, item, response, story
from tests.fakes.upstream import FakeUpstream
from tests.live.conftest import GatewayWith

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

_SECONDS = 30.0
_EVENT_STREAM = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
_JSON = {"content-type": "application/json", "content-length": "1000"}
# What upstream has sent when the client leaves, of a streamed call and of one that is not.
_WINDOWS: dict[str, tuple[bool, list[Step]]] = {
    "before upstream's headers": (True, []),
    "before the first byte": (True, [Reply.head(200, _EVENT_STREAM)]),
    "in the first event": (True, [Reply.head(200, _EVENT_STREAM), b"20\r\n" + story("resp_half")[0][:32] + b"\r\n"]),
    "before upstream's headers, not streamed": (False, []),
    "before the first byte, not streamed": (False, [Reply.head(200, _JSON)]),
    "in the body, not streamed": (False, [Reply.head(200, _JSON) + b'{"id": "resp_half",']),
}


async def left_nothing_running(gateway: LiveGateway, owned: set[asyncio.Task[object]]) -> None:
    """Wait until the call has ended; then its lease and its tasks have to be gone."""
    services = gateway.app.state.services
    async with asyncio.timeout(_SECONDS):
        await services.registry._idle.wait()
        while ended := services.registry._tasks - owned:
            await asyncio.wait(ended)
    pool = services.upstreams._pool
    assert [pool.in_flight(account) for account in pool.accounts()] == [0]


def owned_tasks(gateway: LiveGateway) -> set[asyncio.Task[object]]:
    return set(gateway.app.state.services.registry._tasks)


def stored(database_url: str) -> int:
    engine = create_engine(make_url(database_url))
    try:
        with engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM responses")).scalar_one())
    finally:
        engine.dispose()


_CALLS = [
    *[("/responses", window) for window in _WINDOWS],
    *[(CHAT, window) for window in _WINDOWS if "first event" not in window],
    *[("/embeddings", window) for window in _WINDOWS if "not streamed" in window],
]


@pytest.mark.parametrize(("path", "window"), _CALLS)
async def test_a_client_that_leaves_before_the_first_event_leaves_nothing(
    sqlite_gateway: LiveGateway, sqlite_url: str, upstream: FakeUpstream, path: str, window: str
) -> None:
    stream, steps = _WINDOWS[window]
    owned = owned_tasks(sqlite_gateway)
    upstream.enqueue(Reply([*steps, Act.STALL]))
    async with calling(sqlite_gateway.url, sqlite_gateway.key, path=path, stream=stream) as call:
        request = await upstream.request()
        if "first event" in window:
            await call.head()
        call.leave()
        await asyncio.wait_for(request.closed.wait(), _SECONDS)
    await left_nothing_running(sqlite_gateway, owned)
    assert len(upstream.requests) == 1
    assert stored(sqlite_url) == 0
    async with sqlite_gateway.client() as client:
        assert (await client.responses.create(model="demo", input="Hello!")).status == "completed"


@pytest.mark.parametrize("known", [3, 5])
async def test_a_client_that_leaves_amid_a_stream_finds_what_it_had_heard(
    gateway: LiveGateway, upstream: FakeUpstream, known: int
) -> None:
    frames = story("resp_left", "finished")[:known]
    owned = owned_tasks(gateway)
    upstream.enqueue(Reply.sse(frames, then=Act.STALL))
    async with calling(gateway.url, gateway.key) as call:
        await call.until(frames[-1])
    await asyncio.wait_for((await upstream.request()).closed.wait(), _SECONDS)
    await left_nothing_running(gateway, owned)
    async with gateway.client() as client:
        kept = await client.responses.retrieve("resp_left")
        assert str(kept.status) == "cancelled"
        assert kept.output_text == ("finished" if known == 5 else "Once upon ")
        chained = await client.responses.create(model="demo", input="Go on", previous_response_id=kept.id)
        assert chained.status == "completed"


async def test_a_client_that_leaves_amid_a_stream_that_is_not_stored_leaves_nothing(
    sqlite_gateway: LiveGateway, sqlite_url: str, upstream: FakeUpstream
) -> None:
    frames = story("resp_left")[:5]
    owned = owned_tasks(sqlite_gateway)
    upstream.enqueue(Reply.sse(frames, then=Act.STALL))
    async with calling(sqlite_gateway.url, sqlite_gateway.key, store=False) as call:
        await call.until(frames[-1])
    await asyncio.wait_for((await upstream.request()).closed.wait(), _SECONDS)
    await left_nothing_running(sqlite_gateway, owned)
    assert stored(sqlite_url) == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_while_its_commit_is_pending_finds_the_response(
    gateway: LiveGateway, database_url: str, upstream: FakeUpstream, stream: bool
) -> None:
    response_id = new_id("resp")
    whole = response(response_id, "completed", [item("kept")])
    upstream.enqueue(Reply.sse(story(response_id, "kept")) if stream else Reply.json(200, whole))
    owned = owned_tasks(gateway)
    async with gateway.client() as client:
        async with held_commits(database_url):
            handed = next_write(gateway)
            async with calling(gateway.url, gateway.key, stream=stream):
                await asyncio.wait_for(handed.wait(), _SECONDS)
            await left_nothing_running(gateway, owned)
            with pytest.raises(NotFoundError):
                await client.responses.retrieve(response_id)
        await finds_completed(client, response_id)


async def finds_completed(client: AsyncOpenAI, response_id: str) -> None:
    """Wait until it is there: what met a lock is committed after what came later and met none."""
    async with asyncio.timeout(_SECONDS):
        while True:
            with suppress(NotFoundError):
                kept = await client.responses.retrieve(response_id)
                assert (kept.status, kept.output_text) == ("completed", "kept")
                return
            await asyncio.sleep(0.02)


class _Flood(Sequence[Step]):
    """A stream of this many equal pieces. `taken` counts those that the peer had room for."""

    def __init__(self, pieces: int, piece: bytes) -> None:
        self.taken = 0
        self._steps: list[Step] = [Reply.head(200, _EVENT_STREAM), *[b"%x\r\n%b\r\n" % (len(piece), piece)] * pieces]

    def __iter__(self) -> Iterator[Step]:
        for step in self._steps:
            yield step
            self.taken += 1

    def __getitem__(self, place: int) -> Step:  # type: ignore[override]
        return self._steps[place]

    def __len__(self) -> int:
        return len(self._steps)


def connections(port: int, other_port: int) -> Iterator[str]:
    """The kernel's lines for the sockets on `port` whose peer is `other_port`, both on loopback."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote = (int(address.rpartition(":")[2], 16) for address in line.split()[1:3])
        if (local, remote) == (port, other_port):
            yield line


@pytest.fixture
async def strict_gateway(gateway_with: GatewayWith) -> AsyncIterator[LiveGateway]:
    """A gateway that gives a client a second to take what it is sent."""
    async with gateway_with(server={"write_timeout_seconds": 1}) as gateway:
        yield gateway


async def test_a_client_that_never_reads_is_cut_and_fills_no_memory(
    strict_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    piece = frame("response.output_text.delta", 2, delta="x" * 65_536)
    flood = _Flood(3_200, piece)
    upstream.enqueue(Reply(flood))
    owned = owned_tasks(strict_gateway)
    async with calling(strict_gateway.url, strict_gateway.key, receive_buffer=4096, store=False) as call:
        request = await upstream.request()
        await asyncio.wait_for(request.closed.wait(), 3 * _SECONDS)
        # Of 210 MB, what sockets hold and no more.
        assert 0 < flood.taken * len(piece) < 40_000_000
        await left_nothing_running(strict_gateway, owned)
        port = int(strict_gateway.url.rpartition(":")[2])
        async with asyncio.timeout(3 * _SECONDS):
            while list(connections(port, call.port)):
                await asyncio.sleep(0.1)
