"""Invariant 1b: a stream that upstream leaves without an end gets exactly one, and half a frame is nobody's."""

import pytest
from openai import NotFoundError
from pydantic import ValidationError

from app.settings.server import ServerSettings
from tests.fakes.gateway import LiveGateway
from tests.fakes.raw_client import calling
from tests.fakes.replies import Act, Reply, Step
from tests.fakes.streams import events, frame, item, story
from tests.fakes.upstream import FakeUpstream
from tests.live.conftest import GatewayWith

pytestmark = pytest.mark.live

_ID = "resp_that_was_cut"
_FRAMES = story(_ID, "finished")
_HALF = _FRAMES[-1][:200]
_CHUNKED = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
_CLOSED = {"content-type": "text/event-stream", "connection": "close"}
# Lets the bytes before it arrive first: a reset overtakes them, and so does what cannot be parsed.
_PAUSE = 0.2
# What may stand between the last event and the end without being an event.
_NO_EVENTS = {
    "nothing": b"",
    "a comment": b": ping\n\n",
    "blank lines": b"\n\n\n\n",
    "a retry field": b"retry: 10\n\n",
}


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def death(*steps: Step, headers: dict[str, str] = _CHUNKED) -> Reply:
    return Reply([Reply.head(200, headers), *steps])


_WHOLE = chunked(*_FRAMES[:-1])
_DEATHS = {
    "reset": death(_WHOLE, _PAUSE, Act.RESET),
    "closed between chunks": death(_WHOLE, Act.CLOSE),
    "closed in a chunk": death(_WHOLE, b"fff\r\n" + _HALF, Act.CLOSE),
    "closed in a frame": death(_WHOLE, chunked(_HALF), Act.CLOSE),
    "reset in a frame": death(_WHOLE, chunked(_HALF), _PAUSE, Act.RESET),
    "a proper end without a terminal event": death(_WHOLE, b"0\r\n\r\n"),
    "a proper end in a frame": death(_WHOLE + chunked(_HALF), b"0\r\n\r\n"),
    "a closed connection as the end": death(*_FRAMES[:-1], Act.CLOSE, headers=_CLOSED),
    "a closed connection in a frame": death(*_FRAMES[:-1], _HALF, Act.CLOSE, headers=_CLOSED),
}


@pytest.mark.parametrize("reply", _DEATHS.values(), ids=_DEATHS.keys())
async def test_a_stream_that_dies_ends_in_one_failure(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, reply: Reply
) -> None:
    upstream.enqueue(reply)
    async with calling(sqlite_gateway.url, sqlite_gateway.key) as call:
        body = await call.rest()
    whole = b"".join(_FRAMES[:-1])
    assert body.startswith(whole)
    ending = body[len(whole) :]
    assert ending.startswith(b"event: response.failed\ndata: {")
    assert ending.endswith(b"}\n\n")
    (failed,) = events(ending)
    assert failed["type"] == "response.failed"
    assert failed["sequence_number"] == 5
    assert failed["response"]["id"] == _ID
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["output"] == [item("finished")]
    assert failed["response"]["error"]["code"] == "server_error"
    assert "upstream_disconnected" in failed["response"]["error"]["message"]
    async with sqlite_gateway.client() as client:
        kept = await client.responses.retrieve(_ID)
        assert kept.status == "failed"
        assert kept.output_text == "finished"
        # The next call is served as if nothing had been.
        assert (await client.responses.create(model="demo", input="Hello!")).status == "completed"


@pytest.mark.parametrize("steps", [[Act.STALL], [chunked(_HALF), Act.STALL]])
async def test_a_stream_that_brings_nothing_more_is_given_up(
    gateway_with: GatewayWith, upstream: FakeUpstream, steps: list[Step]
) -> None:
    upstream.enqueue(death(_WHOLE, *steps))
    relay = {"idle_timeout_seconds": 1}
    async with (
        gateway_with(relay=relay) as gateway,
        calling(gateway.url, gateway.key) as call,
    ):
        body = await call.rest()
    whole = b"".join(_FRAMES[:-1])
    assert body.startswith(whole)
    (failed,) = events(body[len(whole) :])
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 5)
    assert "upstream_idle_timeout" in failed["response"]["error"]["message"]


@pytest.mark.parametrize("store", [True, False])
async def test_a_terminal_event_that_is_cut_is_no_end(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, store: bool
) -> None:
    started = b"".join(_FRAMES[:-1])
    upstream.enqueue(Reply.sse([started, _HALF]))
    async with calling(sqlite_gateway.url, sqlite_gateway.key, store=store) as call:
        body = await call.rest()
    assert [event["type"] for event in events(body[len(started) :])] == ["response.failed"]


async def test_a_terminal_event_that_cannot_be_kept_is_kept_and_told_as_a_failure(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    started = b"".join(_FRAMES[:-1])
    upstream.enqueue(Reply.sse([started, b"event: response.completed\ndata: {nonsense\n\n"]))
    async with calling(sqlite_gateway.url, sqlite_gateway.key) as call:
        body = await call.rest()
    (failed,) = events(body[len(started) :])
    assert (failed["type"], failed["response"]["id"]) == ("response.failed", _ID)
    async with sqlite_gateway.client() as client:
        assert (await client.responses.retrieve(_ID)).status == "failed"


@pytest.mark.parametrize("between", _NO_EVENTS.values(), ids=_NO_EVENTS.keys())
async def test_the_failure_is_numbered_after_the_last_numbered_event(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, between: bytes
) -> None:
    started = b"".join(_FRAMES[:3]) + between
    upstream.enqueue(Reply.sse([started], then=Act.CLOSE))
    async with calling(sqlite_gateway.url, sqlite_gateway.key, store=False) as call:
        body = await call.rest()
    assert body.startswith(started)
    (failed,) = events(body[len(started) :])
    assert failed["sequence_number"] == 3


async def test_a_numbered_event_behind_a_comment_counts(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    started = _FRAMES[0] + b": PROCESSING\n" + _FRAMES[1]
    upstream.enqueue(Reply.sse([started], then=Act.CLOSE))
    async with calling(sqlite_gateway.url, sqlite_gateway.key, store=False) as call:
        body = await call.rest()
    (failed,) = events(body[len(started) :])
    assert failed["sequence_number"] == 2


async def test_a_stream_that_dies_before_its_first_event_is_a_failure_too(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.sse([_FRAMES[0][:30]], then=Act.CLOSE))
    async with calling(sqlite_gateway.url, sqlite_gateway.key) as call:
        (failed,) = events(await call.rest())
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 0)
    async with sqlite_gateway.client() as client:
        kept = await client.responses.retrieve(failed["response"]["id"])
    assert (kept.status, kept.model) == ("failed", "demo")


async def test_nothing_follows_an_error_event_of_upstream(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    error = frame("error", 3, code="server_error", message="The model broke.", param=None)
    body = b"".join([*_FRAMES[:3], error])
    for reply in (Reply.sse([body]), Reply.sse([body], then=Act.CLOSE)):
        upstream.enqueue(reply)
        async with calling(sqlite_gateway.url, sqlite_gateway.key, store=False) as call:
            assert await call.rest() == body


async def test_a_response_that_ended_in_an_error_event_is_kept_as_failed(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    error = frame("error", 3, code="server_error", message="The model broke.", param=None)
    upstream.enqueue(Reply.sse([*_FRAMES[:3], error]))
    async with calling(sqlite_gateway.url, sqlite_gateway.key) as call:
        await call.rest()
    async with sqlite_gateway.client() as client:
        assert (await client.responses.retrieve(_ID)).status == "failed"


async def test_a_dead_stream_that_is_not_to_be_stored_leaves_nothing(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(_DEATHS["reset"])
    async with calling(sqlite_gateway.url, sqlite_gateway.key, store=False) as call:
        assert events(await call.rest())[-1]["response"]["id"] == _ID
    async with sqlite_gateway.client() as client:
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(_ID)


async def test_a_failure_echoes_the_deepest_body_that_can_be_allowed(
    gateway_with: GatewayWith, upstream: FakeUpstream
) -> None:
    deepest = 250
    with pytest.raises(ValidationError):
        ServerSettings(max_json_depth=deepest + 1)
    nested: object = []
    for _ in range(deepest - 4):
        nested = [nested]
    tools = [{"type": "custom", "name": "deep", "format": nested}]
    upstream.enqueue(Reply.sse([b": ping\n\n"]))
    async with (
        gateway_with(server={"max_json_depth": deepest}) as gateway,
        calling(gateway.url, gateway.key, tools=tools) as call,
    ):
        (failed,) = events(await call.rest())
    assert failed["response"]["tools"] == tools
