"""Where a body in chunks ends, and what of it is dropped."""

import pytest

from tests.fakes.requests import SDK, Heard

HEAD = SDK.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") % b""


def test_a_trailer_is_no_header() -> None:
    trailers = b"X-Forwarded-For: 10.9.9.9\r\nAuthorization: Bearer sk-other\r\nHost: other\r\nContent-Length: 9\r\n"
    plain, spoofed = (Heard().feed(HEAD + b"2\r\n{}\r\n0\r\n" + lines + b"\r\n") for lines in (b"", trailers))
    assert spoofed.requests == plain.requests
    assert spoofed.bodies == [b"{}"]


@pytest.mark.parametrize("piece", [b"t: x\r\n" * 1000, b"t" * 1000, b"t: x\r\n"])
def test_trailers_are_bounded(piece: bytes) -> None:
    heard = Heard().feed(HEAD + b"0\r\n", *[piece] * 2000)
    assert heard.status == 431
    assert len(heard.reader._unread) < 8192 + 2 * len(piece)


@pytest.mark.parametrize("trailer", [b"no colon", b" folded: a", b"a : b", b"a: b\x00", b"a: b\nc: d", b"a: b\rc"])
def test_a_trailer_is_as_well_formed_as_a_header(trailer: bytes) -> None:
    assert Heard().feed(HEAD + b"0\r\n" + trailer + b"\r\n\r\n").status == 400


@pytest.mark.parametrize(
    "chunks",
    [b"2\r\n{}\r\n0\r\n\r\n", b"02;a=b;c\r\n{}\r\n0;z\r\n\r\n", b'1 ; q="a b"\r\n{\r\n1\r\n}\r\n000\r\nt: u\r\n\r\n'],
)
def test_chunks_are_put_together(chunks: bytes) -> None:
    assert Heard().feed(HEAD + chunks).bodies == [b"{}"]


@pytest.mark.parametrize(
    "chunks",
    [
        b"\r\n",
        b"-1\r\n",
        b"+2\r\n{}\r\n",
        b"0x2\r\n{}\r\n",
        b"2\n{}\n",
        b"2\r\n{}\n",
        b"2\r\n{}0\r\n",
        b"2\r\n{}\r\r\n",
        b"2\r\n{}\r\n\r\n",
        b" 2\r\n",
        b"2 \r\n",
        b"2\r{}\r\n",
        b"2;a\x00b\r\n",
        b"0000000000000002\r\n",
        b"fffffffffffffffff\r\n",
        b"g\r\n",
    ],
)
def test_what_is_no_chunk_is_refused(chunks: bytes) -> None:
    assert Heard().feed(HEAD + chunks).status == 400
    assert Heard().feed(HEAD, *[bytes([byte]) for byte in chunks]).status == 400


@pytest.mark.parametrize("start", [b"2;", b"2\r\n{}\r\n1;a=", b"2;a=b\r\n{}\r\n1;"])
def test_an_extension_is_bounded(start: bytes) -> None:
    heard = Heard().feed(HEAD + start, *[b"x" * 50] * 100)
    assert heard.status == 400
    assert len(heard.reader._unread) < 512


def test_many_small_chunks_are_read_in_turns() -> None:
    heard = Heard()
    heard.reader.feed(HEAD + b"1\r\nx\r\n" * 40_000)
    assert heard.reader.read_head() is not None
    first = heard.reader.read_body()
    assert 0 < len(first) < 1000
    assert heard.reader.is_interrupted
