"""Invariants 1 and 2: what a stream's client receives is what upstream sent, in whole frames."""

import hashlib
from collections.abc import Callable, MutableMapping
from functools import partial
from itertools import accumulate
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ids import new_id
from app.relay.call.settle import Settler
from app.relay.process.admission_and_drain import CallRegistry
from app.relay.stream.accumulator import StreamAccumulator
from app.relay.stream.client import Client
from app.relay.stream.pump import Pump
from app.runtime.compute_thread import ComputeThread
from app.state.records import ApiKey, StoredResponse
from app.storage.responses.store import ResponseStore
from app.upstream.account import accounts_of
from app.upstream.call.answer import UpstreamAnswer
from app.wire.requests.create import parse_create_request
from tests.builders import make_prepared
from tests.fakes.gateway import LiveGateway, upstream_settings
from tests.fakes.raw_client import calling
from tests.fakes.replies import Reply, Step
from tests.fakes.streams import ANY_ID, Stream, boundaries, frame, sample, story, streams
from tests.fakes.upstream import FakeUpstream
from tests.live.conftest import GatewayWith

pytestmark = pytest.mark.live

_LARGEST_EVENT = 32 * 1024 * 1024
_KEEP_ALIVE = b": keep-alive\n\n"
_CALLER = ApiKey("key_1", "proj_1", "test", "abcd", 0, None, None)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Memory:
    """An upstream answer, a response store and an ASGI connection that are lists."""

    account = next(accounts_of(upstream_settings("http://upstream.example", "sk-upstream-one")))

    def __init__(self, chunks: list[bytes]) -> None:
        self.saved: list[StoredResponse] = []
        self.writes: list[bytes] = []
        self.ended = False
        # An empty chunk would be the end.
        self._chunks = [*filter(None, chunks)][::-1]

    async def read(self) -> bytes:
        return self._chunks.pop() if self._chunks else b""

    async def forward_ready(self, take: Callable[[bytes], bool]) -> None:
        while self._chunks and take(self._chunks[-1]):
            self._chunks.pop()

    def push(self, body: bytes) -> bool:
        self.writes.append(body)
        return True

    async def save(self, response: StoredResponse) -> None:
        self.saved.append(response)

    def watch(self, gone: object) -> None:
        """The client stays."""

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            assert not self.ended
            self.writes += [message["body"]] if message["body"] else []
            self.ended = not message["more_body"]


async def pumped(chunks: list[bytes], *, store: bool) -> Memory:
    """These chunks through the pump."""
    memory = Memory(chunks)
    registry = CallRegistry(1)
    request = parse_create_request(b'{"model":"demo","input":"Hi","store":%b}' % (b"true" if store else b"false"), 64)
    responses = cast("ResponseStore", memory)
    exchange = await make_prepared(request, responses, caller=_CALLER, keep=request.store)
    client = Client(memory.send, memory, registry, keep_alive_seconds=25)
    with client:
        await client.begin_stream(200, [])
        await Pump(
            cast("UpstreamAnswer", memory),
            client,
            StreamAccumulator(request.fields, _LARGEST_EVENT),
            partial(Settler(30, ComputeThread()).settle, exchange, "fake"),
            max_event_bytes=_LARGEST_EVENT,
            held=registry.budget.reservation("proj_a"),
            compute_thread=ComputeThread(),
        ).run()
    await registry.aclose()
    return memory


async def check_pumped(stream: Stream, *, store: bool) -> None:
    memory = await pumped(stream.chunks, store=store)
    assert sha(b"".join(memory.writes)) == sha(stream.body)
    assert memory.ended
    allowed = boundaries(stream.body) | {len(stream.body)}
    assert set(accumulate(map(len, memory.writes))) <= allowed
    assert [kept.id for kept in memory.saved] == ([ANY_ID] if store else [])


@settings(max_examples=20 * settings().max_examples, derandomize=True, database=None)
@given(stream=streams(), store=st.booleans())
async def test_any_stream_leaves_as_it_came_in_whole_frames(stream: Stream, store: bool) -> None:
    await check_pumped(stream, store=store)


@pytest.mark.parametrize("size", [65_536, 4_093])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
async def test_an_event_of_four_megabytes_leaves_as_it_came(size: int, line_end: bytes) -> None:
    text = "\u2028 and more".encode() * 400_000
    assert len(text) > 4_000_000
    giant = b"event: response.output_text.delta\ndata: " + text + b"\n\n"
    first, *others, last = story(ANY_ID)
    body = b"".join([first, giant, *others, last]).replace(b"\n", line_end)
    await check_pumped(Stream(body, tuple(range(size, len(body), size))), store=True)


async def test_a_frame_is_passed_on_as_soon_as_it_is_whole() -> None:
    frames = story(ANY_ID)
    memory = await pumped([piece for one in frames for piece in (one[:-1], one[-1:])], store=True)
    assert memory.writes == frames


async def test_generated_streams_are_unchanged_over_real_sockets(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    taken = sample(120)
    assert len(taken) >= 100
    for number, generated in enumerate(taken):
        stream = generated.named(new_id("resp"))
        upstream.enqueue(Reply.sse(stream.chunks))
        async with calling(sqlite_gateway.url, sqlite_gateway.key, store=number % 2 == 0) as call:
            assert sha(await call.rest()) == sha(stream.body), stream


@pytest.mark.slow
async def test_a_silent_stream_gets_comments_at_event_boundaries_and_nothing_else(
    gateway_with: GatewayWith, upstream: FakeUpstream
) -> None:
    *earlier, last = story(new_id("resp"))
    head = Reply.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
    # Silent before the head, before the first byte, between two frames and in the midst of one.
    silence = 0.8
    pieces: list[bytes | float] = [silence, b"".join(earlier[:2]), silence, earlier[2][:20], silence]
    pieces += [earlier[2][20:], *earlier[3:], last[:9], silence, last[9:]]
    steps: list[Step] = [silence, head]
    steps += [piece if isinstance(piece, float) else b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    upstream.enqueue(Reply([*steps, b"0\r\n\r\n"]))
    relay = {"keep_alive_seconds": 0.2}
    chunks: list[bytes] = []
    async with (
        gateway_with(relay=relay) as gateway,
        calling(gateway.url, gateway.key) as call,
    ):
        while chunk := await call.chunk():
            chunks.append(chunk)
    assert chunks[0] == b"".join(earlier[:2])
    assert chunks.count(_KEEP_ALIVE) >= 3
    sent = [chunk for chunk in chunks if chunk != _KEEP_ALIVE]
    assert b"".join(sent) == b"".join([*earlier, last])
    assert set(accumulate(map(len, sent))) <= boundaries(b"".join(sent))


@pytest.mark.slow
async def test_a_stream_that_flows_gets_no_comment(gateway_with: GatewayWith, upstream: FakeUpstream) -> None:
    frames = story(new_id("resp"))
    deltas = [frame("response.output_text.delta", 2, delta=str(number)) for number in range(40)]
    body = [*frames[:3], *deltas, *frames[3:]]
    upstream.enqueue(Reply.sse(body, pause=0.05))
    relay = {"keep_alive_seconds": 1.0}
    async with (
        gateway_with(relay=relay) as gateway,
        calling(gateway.url, gateway.key) as call,
    ):
        assert await call.rest() == b"".join(body)


async def test_keep_alive_comments_can_be_turned_off(gateway_with: GatewayWith, upstream: FakeUpstream) -> None:
    frames = story(new_id("resp"))
    upstream.enqueue(Reply.sse(frames, pause=0.2))
    relay = {"keep_alive_seconds": 0}
    async with (
        gateway_with(relay=relay) as gateway,
        calling(gateway.url, gateway.key) as call,
    ):
        assert await call.rest() == b"".join(frames)
