"""One connection of the native transport: what it takes for an answer."""

from collections.abc import Sequence

import httpx
import pytest

from app.upstream.http.http_client import HttpClient
from app.upstream.transport import UnansweredError
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.native import CHUNKED, ask, chunks_of, kept, whole
from tests.upstream.rig import EVENTS, SSE

BOTH_LOOPS = True
pytestmark = pytest.mark.live

GOOD: dict[str, tuple[Sequence[bytes | Act], bytes, int]] = {
    "content-length": ([Reply.head(200, {"Content-Length": "5"}) + b"hello"], b"hello", 1),
    "content-length in two reads": ([Reply.head(200, {"content-length": "5"}), b"hel", b"lo"], b"hello", 1),
    "chunked": ([CHUNKED, b"2\r\nhe\r\n", b"3\r", b"\nllo\r\n0\r\n", b"\r\n"], b"hello", 1),
    "chunked with extensions and trailers": (
        [CHUNKED + b'5;name="value"\r\nhello\r\n0\r\nx-trailer: one\r\ncontent-type: two\r\n\r\n'],
        b"hello",
        1,
    ),
    "to the end of the connection": ([Reply.head(200, {"x": "y"}), b"hel", b"lo", Act.CLOSE], b"hello", 0),
    "HTTP/1.0": ([b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello"], b"hello", 0),
    "connection: close": ([Reply.head(200, {"content-length": "5", "connection": "close"}) + b"hello"], b"hello", 0),
    "after 1xx": (
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nlink: a\r\n\r\n" * 9 + CHUNKED + b"0\r\n\r\n"],
        b"",
        1,
    ),
    "204": ([Reply.head(204, {})], b"", 0),
    "304": ([Reply.head(304, {"content-length": "5"})], b"", 0),
    "an upgrade that is not made": (
        [Reply.head(200, {"upgrade": "h2c", "connection": "upgrade", "content-length": "5"}) + b"hello"],
        b"hello",
        1,
    ),
    "lines that end in LF": ([b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello"], b"hello", 1),
    "followed by what nobody asked for": ([Reply.head(200, {"content-length": "5"}) + b"hello" + CHUNKED], b"hello", 0),
    "followed by garbage": ([Reply.head(200, {"content-length": "5"}) + b"hello\0\0"], b"hello", 0),
}


@pytest.mark.parametrize("name", GOOD)
async def test_a_good_answer_is_read_to_its_end(native: HttpClient, upstream: FakeUpstream, name: str) -> None:
    steps, body, left = GOOD[name]
    upstream.enqueue(Reply([step for each in steps for step in (each, 0.005)]), Reply.json(200, 1))
    assert await whole(native, upstream.url) == body
    assert kept(native) == left
    assert await whole(native, upstream.url) == b"1"
    assert upstream.connections == 2 - left


INVALID: dict[str, Sequence[bytes]] = {
    "not HTTP": [b"220 smtp ready\r\n"],
    "a switch of protocols": [b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nPRI *"],
    "a status of two digits": [b"HTTP/1.1 20 OK\r\n\r\n"],
    "two lengths": [Reply.head(200, {"content-length": "5", "Content-Length": "6"})],
    "a length that is none": [Reply.head(200, {"content-length": "0x5"})],
    "many headers": [b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 257 + b"content-length: 0\r\n\r\n"],
    "a head that is too large, at once": [Reply.head(200, {"x": "x" * 70_000, "content-length": "2"}) + b"{}"],
    "a head that is too large, in pieces": [b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"x" * 16_000 + b"\r\n"] * 5],
    "a head without end": [b"HTTP/1.1 200 " + b"x" * 70_000],
    "1xx without end": [*[b"HTTP/1.1 103 Early\r\nlink: " + b"x" * 16_000 + b"\r\n\r\n"] * 5],
}


@pytest.mark.parametrize("name", INVALID)
async def test_an_invalid_head_is_an_error_at_once(native: HttpClient, upstream: FakeUpstream, name: str) -> None:
    upstream.enqueue(Reply([step for each in INVALID[name] for step in (each, 0.005)] + [Act.STALL]))
    with pytest.raises(httpx.RemoteProtocolError) as caught:
        await ask(native, upstream.url)
    assert "smtp" not in str(caught.value)
    assert kept(native) == 0
    await upstream.wait_until_idle()


BROKEN_IN_THE_MIDDLE: dict[str, tuple[Sequence[bytes | float | Act], type[httpx.TransportError]]] = {
    "an invalid chunk size": ([b"zz\r\n", Act.STALL], httpx.RemoteProtocolError),
    "a chunk size too large for any integer": ([b"f" * 17 + b"\r\n", Act.STALL], httpx.RemoteProtocolError),
    "a chunk longer than it said": ([b"1\r\nabc\r\n", Act.STALL], httpx.RemoteProtocolError),
    "a chunk extension without end": ([b"1;" + b"x" * 70_000, Act.STALL], httpx.RemoteProtocolError),
    "trailers without end": ([b"0\r\n", *[b"a: " + b"x" * 9_000 + b"\r\n"] * 8, Act.STALL], httpx.RemoteProtocolError),
    "an end": ([Act.CLOSE], httpx.ReadError),
    "a reset": ([0.05, Act.RESET], httpx.ReadError),
    "a reset in place of the end of the connection": ([0.05, Act.RESET], httpx.ReadError),
    "silence": ([Act.STALL], httpx.ReadTimeout),
}


@pytest.mark.parametrize("name", BROKEN_IN_THE_MIDDLE)
async def test_what_came_is_read_before_the_error(native: HttpClient, upstream: FakeUpstream, name: str) -> None:
    steps, error = BROKEN_IN_THE_MIDDLE[name]
    begun = Reply.head(200, {}) + b"hello" if "the end of the connection" in name else CHUNKED + b"5\r\nhello\r\n"
    upstream.enqueue(Reply([begun, 0.02, *steps]))
    body = (await ask(native, upstream.url, read=0.3)).body
    assert (await body.read())[:5] == b"hello"
    with pytest.raises(error) as caught:
        assert await chunks_of(body) == []
    assert type(caught.value) is error
    assert kept(native) == 0
    await upstream.wait_until_idle()


async def test_an_error_does_not_wait_for_a_reader(native: HttpClient, upstream: FakeUpstream) -> None:
    extension = [step for _ in range(8) for step in (b"x" * 10_000, 0.005)]
    upstream.enqueue(Reply([CHUNKED + b"5\r\nhello\r\n", 0.02, b"1;", *extension, Act.STALL]))
    body = (await ask(native, upstream.url)).body
    await upstream.wait_until_idle()
    assert kept(native) == 0
    assert await body.read() == b"hello"
    with pytest.raises(httpx.RemoteProtocolError):
        await body.read()


async def test_a_body_with_a_length_that_is_cut_short_is_an_error(native: HttpClient, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.truncated(b"hel", missing=2))
    body = (await ask(native, upstream.url)).body
    with pytest.raises(httpx.ReadError):
        _ = await chunks_of(body)


@pytest.mark.parametrize("said", [b"", b"HTTP"])
@pytest.mark.parametrize("act", [Act.CLOSE, Act.RESET])
@pytest.mark.parametrize("is_kept", [False, True])
async def test_only_a_kept_connection_that_is_closed_in_silence_is_stale(
    native: HttpClient, upstream: FakeUpstream, said: bytes, act: Act, is_kept: bool
) -> None:
    if is_kept:
        upstream.enqueue(Reply.json(200, 1))
        assert await whole(native, upstream.url) == b"1"
    upstream.enqueue(Reply([said, 0.05, act]))
    with pytest.raises(httpx.ReadError) as caught:
        await ask(native, upstream.url)
    assert type(caught.value) is (UnansweredError if is_kept and not said else httpx.ReadError)


async def test_the_beginning_of_a_body_is_waited_for(native: HttpClient, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply([CHUNKED, 0.5, b"5\r\nhello\r\n0\r\n\r\n"]))
    body = (await ask(native, upstream.url, read=0.1)).body
    assert await chunks_of(body) == [b"hello"]


async def test_silence_counts_from_the_last_bytes(native: HttpClient, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse(EVENTS * 5, pause=0.1))
    body = (await ask(native, upstream.url, read=0.4)).body
    assert b"".join(await chunks_of(body)) == SSE * 5


async def test_all_that_has_come_is_one_chunk(native: HttpClient, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply([b"".join(bytes(step) for step in Reply.sse(EVENTS).steps if isinstance(step, bytes))]))
    body = (await ask(native, upstream.url)).body
    assert await chunks_of(body) == [SSE]


async def test_what_came_with_the_head_is_taken_without_waiting(native: HttpClient, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply([Reply.head(200, {"content-length": "5"}) + b"hello"]))
    body = (await ask(native, upstream.url)).body
    assert not body.is_over
    assert body.take() == b"hello"
    assert body.is_over
    assert (body.take(), await body.read()) == (b"", b"")


async def test_a_body_that_broke_is_not_over_before_its_reader_knows(
    native: HttpClient, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.truncated(b"hel", missing=2))
    body = (await ask(native, upstream.url)).body
    await upstream.wait_until_idle()
    assert body.take() == b"hel"
    assert not body.is_over
    assert body.take() == b""
    with pytest.raises(httpx.ReadError):
        await body.read()


@pytest.mark.parametrize("surplus", [CHUNKED, b"\r\n"])
async def test_what_comes_while_a_connection_is_idle_closes_it(
    native: HttpClient, upstream: FakeUpstream, surplus: bytes
) -> None:
    upstream.enqueue(Reply([Reply.head(200, {"content-length": "2"}) + b"{}", 0.05, surplus]), Reply.json(200, 1))
    assert await whole(native, upstream.url) == b"{}"
    assert kept(native) == 1
    await upstream.wait_until_idle(timeout=2)
    assert kept(native) == 0
    assert await whole(native, upstream.url) == b"1"
