"""An answer after its first byte: read, cut, silent, closed early, and its reader or its opening cancelled."""

import asyncio

import pytest

from app.errors import UpstreamError
from app.upstream.faults.classification import UpstreamBrokenError
from app.upstream.transport import Transport
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.rig import EVENTS, KEYS, SSE, Rig, read_all, rig, upstream_settings

pytestmark = pytest.mark.live


async def test_nothing_is_tried_again_once_a_byte_is_here(upstream: FakeUpstream, three: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS[:1], then=Act.RESET))
    answer = await three.open()
    with pytest.raises(UpstreamBrokenError) as caught:
        await read_all(answer)
    await answer.aclose()
    assert caught.value.code == "upstream_disconnected"
    assert len(upstream.requests) == 1
    assert three.in_flight == 0


@pytest.mark.parametrize(
    "fault", [Reply.sse(EVENTS[:1], then=Act.CLOSE), Reply.truncated(EVENTS[0]), Reply.sse(EVENTS[:1], then=Act.RESET)]
)
async def test_an_answer_that_is_cut_says_so_after_what_came(fault: Reply, upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(fault)
    answer = await one.open()
    assert await answer.read() == EVENTS[0]
    with pytest.raises(UpstreamBrokenError):
        await answer.read()
    await answer.aclose()


WHOLE = b'{"id":"resp_1"}'
AT_ONCE = Reply.body(200, WHOLE)
IN_PIECES = Reply([Reply.head(200, {"content-length": str(len(WHOLE))}), WHOLE[:5], 0.05, WHOLE[5:]])


@pytest.mark.parametrize("reply", [AT_ONCE, IN_PIECES])
async def test_a_whole_answer_is_read_at_once_or_as_it_comes(reply: Reply, upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(reply)
    answer = await one.open(stream=False)
    assert await answer.read_whole(len(WHOLE)) == WHOLE
    assert await answer.read() == b""
    await answer.aclose()


@pytest.mark.parametrize("reply", [AT_ONCE, IN_PIECES])
async def test_a_whole_answer_that_is_too_large_is_an_error(reply: Reply, upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(reply)
    answer = await one.open(stream=False)
    with pytest.raises(UpstreamError) as caught:
        await answer.read_whole(len(WHOLE) - 1)
    assert caught.value.code == "upstream_too_large"
    await answer.aclose()


async def test_a_whole_answer_is_reserved_also_where_it_came_with_its_head(upstream: FakeUpstream, one: Rig) -> None:
    reserved: list[int] = []

    async def reserve(size: int) -> None:
        reserved.append(size)

    large = b'{"id":"resp_1","x":"%b"}' % (b"x" * 100_000)
    for said, expected in ((large, [3 * len(large)]), (WHOLE, [])):
        upstream.enqueue(Reply.body(200, said))
        answer = await one.open(stream=False)
        while await answer.read_ahead():
            pass
        assert await answer.read_whole(1_000_000, reserve) == said
        assert reserved == expected
        reserved.clear()
        await answer.aclose()


async def test_a_whole_answer_that_is_cut_is_an_error(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.truncated(WHOLE))
    answer = await one.open(stream=False)
    with pytest.raises(UpstreamBrokenError):
        await answer.read_whole(1000)
    await answer.aclose()


async def test_a_stream_that_falls_silent_is_given_up(upstream: FakeUpstream, transport: Transport) -> None:
    one = rig(transport, upstream_settings(upstream.url), idle_timeout_seconds=2)
    upstream.enqueue(Reply.sse(EVENTS, then=Act.STALL))
    answer = await one.open()
    received = b""
    while len(received) < len(SSE):
        received += await answer.read()
    with pytest.raises(UpstreamBrokenError) as caught:
        await answer.read()
    await answer.aclose()
    assert received == SSE
    assert caught.value.code == "upstream_idle_timeout"
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 20)


async def test_the_time_a_reader_takes_is_not_silence(upstream: FakeUpstream, transport: Transport) -> None:
    one = rig(transport, upstream_settings(upstream.url), idle_timeout_seconds=2)
    upstream.enqueue(Reply.sse(EVENTS * 2, pause=0.1))
    answer = await one.open()
    received = await answer.read()
    await asyncio.sleep(2.2)
    while chunk := await answer.read():
        received += chunk
    await answer.aclose()
    assert received == SSE * 2


async def test_closing_early_closes_the_connection(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS[:1], then=Act.STALL))
    answer = await one.open()
    assert await answer.read() == EVENTS[0]
    assert not upstream.requests[0].closed.is_set()
    await answer.aclose()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 20)
    assert one.in_flight == 0


async def test_closing_while_another_task_reads_ends_the_reader(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS[:1], then=Act.STALL))
    answer = await one.open()
    await answer.read()
    reader = asyncio.ensure_future(answer.read())
    await asyncio.sleep(0.05)
    await answer.aclose()
    assert one.in_flight == 0
    with pytest.raises(UpstreamBrokenError):
        await reader


async def test_a_cancelled_reader_leaves_nothing(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS, then=Act.STALL))

    async def relay() -> None:
        answer = await one.open()
        try:
            await read_all(answer)
        finally:
            await answer.aclose()

    task = asyncio.ensure_future(relay())
    await upstream.request()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.wait_until_idle()
    assert one.in_flight == 0


@pytest.mark.parametrize("fault", [Reply.stall(), Reply.sse([], then=Act.STALL), Reply.slow_head(0.3)])
async def test_cancelling_an_open_leaves_no_lease_and_no_connection(
    fault: Reply, upstream: FakeUpstream, three: Rig
) -> None:
    upstream.respond = lambda _: fault
    calls = [asyncio.ensure_future(three.open()) for _ in range(12)]
    await upstream.request(11)
    assert three.in_flight == 12
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert three.in_flight == 0
    await upstream.wait_until_idle()


async def test_cancelling_at_any_moment_leaves_nothing(upstream: FakeUpstream, transport: Transport) -> None:
    three = rig(transport, upstream_settings(upstream.url, *KEYS))
    upstream.respond = lambda _: Reply.sse(EVENTS, pause=0.001)
    finished = 0
    for steps in range(40):
        call = asyncio.ensure_future(three.read())
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        finished += outcome == SSE
        assert three.in_flight == 0
    assert finished < 40
    assert await three.read() == SSE
