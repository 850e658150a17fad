"""One connection of the native transport: what is sent on it, what is held of it, and who gives up."""

import asyncio
import sys

import httpx
import pytest

from app.runtime.write_coalescer import WriteCoalescer
from app.upstream.http.connection import Connection
from app.upstream.http.http_client import HttpClient
from app.upstream.http.response_body import ResponseBody
from app.upstream.transport import Transport, UnansweredError, UpstreamRequest
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.native import CHUNKED, ConnectionOwner, Wire, arrives, ask, chunks_of, kept
from tests.upstream.rig import serving

BOTH_LOOPS = True
pytestmark = pytest.mark.live


async def test_an_early_refusal_of_a_large_body_is_heard_though_the_connection_is_reset(native: HttpClient) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(Reply.head(413, {"content-length": "2", "connection": "close"}) + b"{}")
        await writer.drain()
        # Closing with bytes unread resets the connection.
        writer.transport.abort()

    async with serving(refuse) as address:
        response = await ask(native, f"http://{address}/v1", b"x" * 20_000_000)
        assert response.status == 413
        assert await chunks_of(response.body) == [b"{}"]
    assert kept(native) == 0


async def test_a_refusal_that_leaves_a_body_unread_leaves_no_connection(native: HttpClient) -> None:
    given_up = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(Reply.head(413, {"content-length": "2"}) + b"{}")
        await given_up.wait()

    async with serving(refuse) as address:
        response = await ask(native, f"http://{address}/v1", b"x" * 20_000_000)
        assert await chunks_of(response.body) == [b"{}"]
        assert kept(native) == 0
        given_up.set()


async def test_of_a_body_that_is_not_taken_little_is_queued(native: HttpClient) -> None:
    given_up = asyncio.Event()

    async def read_nothing(*_: object) -> None:
        await given_up.wait()

    async with serving(read_nothing) as address:
        call = asyncio.ensure_future(ask(native, f"http://{address}/v1", b"x" * 20_000_000))
        await asyncio.sleep(0.2)
        (connection,) = native._connections._routes
        assert connection.transport is not None
        assert 0 < connection.transport.get_write_buffer_size() <= 4 * 64 * 1024
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert kept(native) == 0
        given_up.set()


async def test_a_body_is_sent_to_its_end_though_the_answer_has_begun(native: HttpClient) -> None:
    sent = b"0123456789" * 500_000
    received = b""

    async def answer_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED + b"5\r\nhello\r\n")
        received = await reader.readexactly(len(sent))
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async with serving(answer_first) as address:
        response = await ask(native, f"http://{address}/v1", sent)
        assert await chunks_of(response.body) == [b"hello"]
        assert kept(native) == 1
        await native.aclose()
    assert received == sent


async def test_a_body_that_is_sent_is_held_no_longer(native: HttpClient, upstream: FakeUpstream) -> None:
    sent = b"0123456789" * 500_000
    before = sys.getrefcount(sent)
    upstream.enqueue(Reply([CHUNKED + b"5\r\nhello\r\n", Act.STALL]))
    response = await ask(native, upstream.url, sent)
    body = response.body
    del response
    assert await body.read() == b"hello"
    assert sys.getrefcount(sent) == before
    await body.aclose()


async def test_a_body_that_nobody_reads_stops_its_sender(native: HttpClient) -> None:
    size = 20_000_000

    async def forward_ready(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(Reply.head(200, {"content-length": str(size)}))
        for _ in range(size // 100_000):
            writer.write(bytes(100_000))
            await writer.drain()
            poured.append(100_000)
        await reader.read()

    poured: list[int] = []
    async with serving(forward_ready) as address:
        response = await ask(native, f"http://{address}/v1")
        body = response.body
        assert isinstance(body, ResponseBody)
        held, before = 0, -1
        while len(poured) != before:
            before = len(poured)
            await asyncio.sleep(0.1)
            held = sum(len(piece) for piece in body.pieces)
        assert sum(poured) < size
        assert held <= 64 * 1024 + 256 * 1024
        assert sum([len(chunk) for chunk in await chunks_of(body)]) == size
        assert kept(native) == 1
        await native.aclose()


@pytest.mark.parametrize("header", ["a\r\nx-evil: 1", "a\nb", "a\rb"])
async def test_a_header_with_a_line_break_is_not_sent(native: HttpClient, upstream: FakeUpstream, header: str) -> None:
    url, fine = httpx.URL(upstream.url), httpx.Headers({"x": "a"})
    with pytest.raises(httpx.LocalProtocolError):
        native.prepare(UpstreamRequest("POST", url, httpx.Headers({"x": header}), 1.0))
    with pytest.raises(httpx.LocalProtocolError):
        await native.prepare(UpstreamRequest("POST", url, fine, 1.0))(b"", [(b"y", header.encode())])
    assert upstream.connections == 0


async def test_a_request_is_framed_by_the_transport_whatever_its_headers_say(
    native: HttpClient, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.json(200, 1), Reply.json(200, 2))
    wrong = {"Host": "evil.test", "Content-Length": "99", "Transfer-Encoding": "chunked", "accept": "a"}
    for number, (method, body) in enumerate({"POST": b"{}", "GET": b""}.items(), 1):
        request = UpstreamRequest(method, httpx.URL(upstream.url), httpx.Headers(wrong), 1.0)
        answer = await native.prepare(request)(body, [(b"Connection", b"close")])
        assert await chunks_of(answer.body) == [b"%d" % number]
    assert dict(upstream.requests[0].headers) == {
        "host": upstream.origin.removeprefix("http://"),
        "accept": "a",
        "content-length": "2",
    }
    assert "content-length" not in upstream.requests[1].headers


async def test_what_is_asked_again_says_of_a_call_only_what_is_its_own(
    transport: Transport, upstream: FakeUpstream
) -> None:
    upstream.respond = lambda _: Reply.json(200, 1)
    ask = transport.prepare(UpstreamRequest("POST", httpx.URL(upstream.url), httpx.Headers({"x": "same"}), 1.0))
    beside = [{"y": "one"}, {}, {"y": "two"}, {"z": "one"}]
    for number, headers in enumerate(beside):
        answer = await ask(b"." * number, httpx.Headers(headers).raw)
        assert await chunks_of(answer.body) == [b"1"]
    host = {"host": upstream.origin.removeprefix("http://")}
    for number, (request, headers) in enumerate(zip(upstream.requests, beside, strict=True)):
        said = {**host, "x": "same", **headers, "content-length": str(number)}
        assert {name: value for name, value in request.headers.items() if name in {*said, "y", "z"}} == said


async def test_a_request_that_is_given_up_as_its_answer_comes_leaves_the_connection_to_who_has_it_now() -> None:
    wire, owner = Wire(), ConnectionOwner()
    connection = Connection(owner, WriteCoalescer())
    connection.connection_made(wire)
    first = asyncio.ensure_future(connection.ask(b"GET", b"", None))
    await asyncio.sleep(0)
    arrives(connection, Reply.head(200, {"content-length": "2"}) + b"{}")
    assert owner.rests == 1
    second = asyncio.ensure_future(connection.ask(b"GET", b"", None))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert not wire.aborted
    arrives(connection, Reply.head(200, {"content-length": "3"}) + b"[1]")
    assert await chunks_of((await second).body) == [b"[1]"]


async def test_an_answer_to_a_request_that_was_given_up_is_not_received() -> None:
    wire, owner = Wire(), ConnectionOwner()
    connection = Connection(owner, WriteCoalescer())
    connection.connection_made(wire)
    call = asyncio.ensure_future(connection.ask(b"GET", b"", None))
    await asyncio.sleep(0)
    call.cancel()
    arrives(connection, CHUNKED)
    assert wire.aborted
    await asyncio.gather(call, return_exceptions=True)
    assert (call.cancelled(), owner.gone_) == (True, 1)


async def test_a_connection_that_was_lost_while_it_was_idle_answers_nothing() -> None:
    connection = Connection(ConnectionOwner(), WriteCoalescer())
    connection.connection_made(Wire())
    connection.connection_lost(None)
    with pytest.raises(UnansweredError):
        await connection.ask(b"GET", b"", None)


async def test_a_connection_that_is_given_up_before_it_is_made_is_closed_when_it_is() -> None:
    wire, owner = Wire(), ConnectionOwner()
    connection = Connection(owner, WriteCoalescer())
    connection.abort(httpx.ConnectError(""))
    connection.connection_made(wire)
    assert (wire.aborted, owner.gone_) == (True, 1)


async def test_a_whole_answer_that_is_too_much_at_once_leaves_the_connection_reading() -> None:
    wire, owner = Wire(), ConnectionOwner()
    connection = Connection(owner, WriteCoalescer())
    connection.connection_made(wire)
    call = asyncio.ensure_future(connection.ask(b"GET", b"", None))
    await asyncio.sleep(0)
    arrives(connection, Reply.head(200, {"content-length": "200000"}) + bytes(100_000))
    assert wire.paused
    arrives(connection, bytes(100_000))
    assert not wire.paused
    assert owner.rests == 1
    assert sum([len(chunk) for chunk in await chunks_of((await call).body)]) == 200_000


async def test_an_end_leaves_no_timer() -> None:
    connection = Connection(ConnectionOwner(), WriteCoalescer())
    connection.connection_made(Wire())
    call = asyncio.ensure_future(connection.ask(b"GET", b"", 60.0))
    await asyncio.sleep(0)
    arrives(connection, CHUNKED + b"5\r\nhello\r\n")
    body = (await call).body
    assert isinstance(body, ResponseBody)
    assert await body.read() == b"hello"
    reader = asyncio.ensure_future(body.read())
    await asyncio.sleep(0)
    assert body._timer is not None
    arrives(connection, b"0\r\n\r\n")
    assert await reader == b""
    assert body._timer is None


async def test_little_is_read_at_once_and_little_more_while_nobody_takes_it() -> None:
    wire, owner = Wire(), ConnectionOwner()
    connection = Connection(owner, WriteCoalescer())
    connection.connection_made(wire)
    call = asyncio.ensure_future(connection.ask(b"GET", b"", None))
    await asyncio.sleep(0)
    arrives(connection, Reply.head(200, {"content-length": "200000"}))
    read = 0
    while not wire.paused:
        buffer = connection.get_buffer(-1)
        assert len(buffer) <= 16 * 1024
        connection.buffer_updated(len(buffer))
        read += len(buffer)
    assert read <= 48 * 1024
    body = (await call).body
    assert len(await body.read()) == read
    assert not wire.paused
