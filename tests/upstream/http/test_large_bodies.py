"""Request bodies that are larger than one write."""

import asyncio

import pytest

from app.upstream.transport import Transport
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.rig import EVENTS, SSE, Rig, failure, rig, serving, upstream_settings

pytestmark = pytest.mark.live


async def test_a_body_of_20_megabytes_arrives_intact(upstream: FakeUpstream, one: Rig) -> None:
    body = b'{"input":"' + bytes(range(48, 58)) * 2_000_000 + b'"}'
    upstream.enqueue(Reply.sse(EVENTS), Reply.hang_up(), Reply.sse(EVENTS))
    assert await one.read() == SSE
    assert await one.read(body) == SSE
    for request in upstream.requests[1:]:
        assert request.body == body
        assert request.headers["content-length"] == str(len(body))
        assert "transfer-encoding" not in request.headers


async def test_an_upstream_that_answers_before_the_body_is_sent_is_heard(transport: Transport) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answer = Reply.error(413, "string_above_max_length").steps[0]
        assert isinstance(answer, bytes)
        writer.write(answer)
        await reader.read()

    async with serving(refuse) as address:
        one = rig(transport, upstream_settings(f"http://{address}/v1"))
        error = await failure(one.open(b"x" * 20_000_000))
    assert error.status == 413
    assert one.in_flight == 0


async def test_an_upstream_that_reads_nothing_holds_no_call_beyond_its_time(
    transport: Transport,
) -> None:
    given_up = asyncio.Event()

    async def stall(*_: object) -> None:
        await given_up.wait()

    async with serving(stall) as address:
        one = rig(transport, upstream_settings(f"http://{address}/v1"), first_byte_timeout_seconds=0.3)
        error = await failure(one.open(b"x" * 20_000_000))
        given_up.set()
    assert error.code == "upstream_timeout"
    assert one.in_flight == 0
