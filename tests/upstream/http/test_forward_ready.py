"""What comes of an answer, handed on without waking a task: until it is declined, silent, broken or at its end."""

import asyncio

import httpx
import pytest

from app.upstream.faults.classification import UpstreamBrokenError
from app.upstream.http.http_client import HttpClient
from app.upstream.http.response_body import ResponseBody
from app.upstream.transport import Transport
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.rig import read_all, rig, upstream_settings

pytestmark = pytest.mark.live

PIECES = [b"data: %d\n\n" % number for number in range(6)]


async def test_what_is_poured_and_what_is_read_are_together_what_upstream_sent(
    upstream: FakeUpstream, transport: Transport
) -> None:
    upstream.enqueue(Reply.sse(PIECES, pause=0.05))
    answer = await rig(transport, upstream_settings(upstream.url)).open()
    received = []

    def take(chunk: bytes) -> bool:
        if b"data: 3" in chunk:
            return False
        received.append(chunk)
        return True

    while chunk := await answer.read():
        received.append(chunk)
        await answer.forward_ready(take)
    await answer.aclose()
    assert b"".join(received) == b"".join(PIECES)


async def test_no_task_is_woken_for_what_is_taken(upstream: FakeUpstream, native: HttpClient) -> None:
    upstream.enqueue(Reply.sse(PIECES, pause=0.05))
    answer = await rig(native, upstream_settings(upstream.url)).open()
    assert await answer.read() == PIECES[0]
    takers = []

    def take(_: bytes) -> bool:
        takers.append(asyncio.current_task())
        return True

    await answer.forward_ready(take)
    assert takers == [None] * 5
    assert await answer.read() == b""
    await answer.aclose()


async def test_what_is_declined_is_offered_to_nobody_else(upstream: FakeUpstream, native: HttpClient) -> None:
    upstream.enqueue(Reply.sse(PIECES, pause=0.05))
    answer = await rig(native, upstream_settings(upstream.url)).open()
    assert await answer.read() == PIECES[0]
    offered: list[bytes] = []
    # `append` returns None: it declines.
    await answer.forward_ready(lambda chunk: bool(offered.append(chunk)))  # type: ignore[func-returns-value]
    assert offered == [PIECES[1]]
    assert await read_all(answer) == b"".join(PIECES[1:])
    await answer.aclose()


async def test_an_error_is_for_the_next_reader(upstream: FakeUpstream, native: HttpClient) -> None:
    upstream.enqueue(Reply.sse(PIECES[:3], then=Act.RESET, pause=0.05))
    answer = await rig(native, upstream_settings(upstream.url)).open()
    taken: list[bytes] = [await answer.read()]
    await answer.forward_ready(lambda chunk: not taken.append(chunk))  # type: ignore[func-returns-value]
    assert taken == PIECES[:3]
    with pytest.raises(UpstreamBrokenError):
        await answer.read()
    await answer.aclose()


async def test_a_stream_that_falls_silent_while_it_is_poured_is_given_up(
    upstream: FakeUpstream, native: HttpClient
) -> None:
    upstream.enqueue(Reply.sse(PIECES, then=Act.STALL, pause=0.4))
    answer = await rig(native, upstream_settings(upstream.url), idle_timeout_seconds=1.6).open()
    taken: list[bytes] = [await answer.read()]
    await answer.forward_ready(lambda chunk: not taken.append(chunk))  # type: ignore[func-returns-value]
    # All of it took longer than the silence that is allowed between two of them.
    assert taken == PIECES
    with pytest.raises(UpstreamBrokenError) as caught:
        await answer.read()
    assert caught.value.code == "upstream_idle_timeout"
    await answer.aclose()


async def test_who_pours_can_be_cancelled(upstream: FakeUpstream, native: HttpClient) -> None:
    upstream.enqueue(Reply.sse(PIECES[:1], then=Act.STALL))
    answer = await rig(native, upstream_settings(upstream.url)).open()
    assert await answer.read() == PIECES[0]
    pouring = asyncio.create_task(answer.forward_ready(lambda _: True))
    await asyncio.sleep(0)
    pouring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pouring
    await answer.aclose()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 20)


class Faucet:
    """Where a body comes from; it counts how often it is turned."""

    def __init__(self) -> None:
        self.turned: list[str] = []

    def pause_reading(self) -> None:
        self.turned.append("off")

    def resume_reading(self) -> None:
        self.turned.append("on")

    def abort(self, error: httpx.TransportError) -> None:
        raise error


async def test_what_comes_before_the_reader_has_its_turn_is_bounded() -> None:
    faucet = Faucet()
    body = ResponseBody(faucet, None, asyncio.get_running_loop())
    reading = asyncio.ensure_future(body.read())
    await asyncio.sleep(0)
    for _ in range(3):
        # The system hands over all this before any task runs.
        body.pieces.append(b"x" * 40_000)
        body.arrived(40_000)
    assert faucet.turned == ["off"]
    assert len(await reading) == 120_000
    assert faucet.turned == ["off", "on"]
