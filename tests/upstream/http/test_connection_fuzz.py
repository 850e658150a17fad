"""Our client against servers that say anything: an answer is exactly right or an error, and nothing is left behind."""

import asyncio
from collections.abc import Coroutine, Iterator
from itertools import chain, repeat
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.upstream.answers import Heard, Script, broken, cut, hear, heard_by_h11, scripts

OK = b"HTTP/1.1 200 OK\r\n"
FIVE = b"content-length: 5\r\n\r\nhello"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
HELLO = (200, b"hello")
MEBIBYTE = 1024 * 1024
bounded = settings(max_examples=150, derandomize=True, deadline=None)
places = st.lists(st.integers(0, 10_000), max_size=8)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def run(runner: asyncio.Runner, hearing: Coroutine[Any, Any, Heard]) -> Heard:
    return runner.run(hearing)


@bounded
@given(script=scripts(), places=places, follows=st.booleans())
def test_a_good_answer_is_heard_exactly_wherever_it_is_cut(
    loop: asyncio.Runner, script: Script, places: list[int], follows: bool
) -> None:
    heard = run(loop, hear(cut(script.sent, places), ends=script.closes or follows))
    assert heard.answer == (script.status, script.body)
    assert not (script.closes and heard.is_kept)
    assert heard_by_h11(script.sent).answer == heard.answer


@bounded
@given(script=scripts())
def test_a_good_answer_is_heard_exactly_byte_by_byte(loop: asyncio.Runner, script: Script) -> None:
    heard = run(loop, hear([bytes([byte]) for byte in script.sent]))
    assert heard.answer == (script.status, script.body)


@bounded
@given(script=scripts(), place=st.integers(0, 10_000))
def test_an_answer_that_is_cut_short_is_an_error_unless_its_end_is_the_connections(
    loop: asyncio.Runner, script: Script, place: int
) -> None:
    sent = script.sent[: place % len(script.sent)]
    heard = run(loop, hear([sent] if sent else []))
    if heard.error is None:
        assert script.closes
        assert heard.status == script.status
        assert heard.body is not None
        assert script.body.startswith(heard.body)


@bounded
@given(sent=broken(), places=places)
def test_a_broken_answer_is_an_error_or_what_h11_hears_too_and_never_depends_on_where_it_is_cut(
    loop: asyncio.Runner, sent: bytes, places: list[int]
) -> None:
    heard = run(loop, hear([sent]))
    assert heard.error is None or issubclass(heard.error, httpx.TransportError)
    in_pieces = run(loop, hear(cut(sent, places)))
    assert (in_pieces.answer, in_pieces.error is None) == (heard.answer, heard.error is None)
    reference = heard_by_h11(sent)
    if heard.error is None and reference.error is None:
        assert heard.answer == reference.answer


@bounded
@given(noise=st.lists(st.binary(min_size=1, max_size=200), max_size=10))
def test_noise_is_no_answer(loop: asyncio.Runner, noise: list[bytes]) -> None:
    assert run(loop, hear(noise)).error is not None


@pytest.mark.parametrize(
    "sent",
    [
        OK + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        OK + b"content-length: 5\r\ncontent-length: 3\r\n\r\nhello",
        OK + b"content-length: 5, 5\r\n\r\nhello",
        OK + b"content-length: -5\r\n\r\nhello",
        OK + b"content-length: +5\r\n\r\nhello",
        OK + b"content-length: 0x5\r\n\r\nhello",
        OK + b"content-length: \r\n\r\nhello",
        OK + b"content-length: 99999999999999999999999\r\n\r\nhello",
        OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked, gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"transfer-encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"transfer-encoding: gzip\r\n\r\nhello",
        CHUNKED + b"g\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n",
        CHUNKED + b"5\r\nhello\r\n",
        b"HTTP/2.0 200 OK\r\n" + FIVE,
        b"HTTP/0.9 200 OK\r\n" + FIVE,
        b"ICY 200 OK\r\n" + FIVE,
        b"HTTP/1.1 099 No\r\n" + FIVE,
        b"HTTP/1.1 600 No\r\n" + FIVE,
        b"HTTP/1.1 2000 No\r\n" + FIVE,
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello",
        OK + b"a: b\rcontent-length: 3\r\n" + FIVE,
        OK + b"no colon\r\n" + FIVE,
    ],
)
async def test_what_is_ambiguous_or_not_understood_is_refused(sent: bytes) -> None:
    for pieces in ([sent], [bytes([byte]) for byte in sent]):
        assert (await hear(pieces)).error is not None


@pytest.mark.parametrize(
    ("sent", "answer", "is_kept"),
    [
        (OK + FIVE, HELLO, True),
        (b"HTTP/1.0 200 OK\r\n" + FIVE, HELLO, False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n" + FIVE, HELLO, True),
        (b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", HELLO, False),
        (OK + b"connection: close\r\n" + FIVE, HELLO, False),
        (OK + b"\r\nhello", HELLO, False),
        (OK + b"transfer-encoding: identity\r\n\r\nhello", HELLO, False),
        (CHUNKED + b'5;a="b"\r\nhello\r\n0\r\nx-trailer: 1\r\n\r\n', HELLO, True),
        (OK + FIVE + b"garbage", HELLO, False),
        ((OK + FIVE) * 2, HELLO, False),
        (b"HTTP/1.1 100 Continue\r\ncontent-length: 9\r\n\r\n" + OK + FIVE, HELLO, True),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello", (204, b""), False),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", (304, b""), False),
    ],
)
async def test_what_is_unusual_is_heard_as_it_is_meant(sent: bytes, answer: tuple[int, bytes], is_kept: bool) -> None:
    heard = await hear([sent])
    assert (heard.answer, heard.is_kept) == (answer, is_kept)


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        (b"HTTP/1.1 200 ", b"O" * 4096),
        (OK + b"a: ", b"b" * 4096),
        (OK + b"a", b"b" * 4096),
        (OK, b"a: b\r\n" * 600),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (CHUNKED + b"5;a=", b"b" * 4096),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", b"a: b\r\n" * 600),
        (b"", b"\r\n" * 2048),
    ],
    ids=["status line", "value", "name", "headers", "1xx", "extension", "trailers", "empty lines"],
)
async def test_no_flood_is_taken_in(begins: bytes, goes_on: bytes) -> None:
    taken = 0

    def flood() -> Iterator[bytes]:
        nonlocal taken
        for piece in chain([begins] if begins else [], repeat(goes_on, MEBIBYTE // len(goes_on))):
            taken += len(piece)
            yield piece

    assert (await hear(flood(), ends=False)).error is httpx.RemoteProtocolError
    assert taken < MEBIBYTE // 8


async def test_what_follows_an_answer_on_a_kept_connection_is_not_the_next_ones() -> None:
    for extra in (b"g", OK + FIVE, b"\r\n"):
        heard = await hear([OK + FIVE, extra])
        assert heard.answer == HELLO
