"""HTTP/1.1 answers for the fuzzer, good and broken; how our client hears them, and how h11 does."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import h11
import httpx
from hypothesis import strategies as st

from app.runtime.write_coalescer import WriteCoalescer
from app.upstream.http.connection import Connection
from tests.upstream.native import ConnectionOwner, Wire, arrives, chunks_of

REQUEST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
_WITHOUT_BODY = (204, 304)


@dataclass(frozen=True)
class Script:
    """What a server sends, and what it means by it. `closes`: the body ends with the connection."""

    sent: bytes
    status: int
    body: bytes
    closes: bool


@dataclass(frozen=True)
class Heard:
    """What a client made of it: an error, or a whole answer. `is_kept`: its connection is used again."""

    status: int | None = None
    body: bytes | None = None
    error: type[Exception] | None = None
    is_kept: bool = False

    @property
    def answer(self) -> tuple[int | None, bytes | None]:
        return self.status, self.body


async def hear(pieces: Iterable[bytes], *, ends: bool = True) -> Heard:
    """Our client, which is sent these pieces and, if it `ends`, the end of the connection; else it gives up itself."""
    owner, wire = ConnectionOwner(), Wire()
    connection = Connection(owner, WriteCoalescer())
    connection.connection_made(wire)
    asking = asyncio.ensure_future(connection.ask(REQUEST, b"", None))
    await asyncio.sleep(0)
    for piece in pieces:
        if connection.closed:
            break
        arrives(connection, piece)
    if ends and not connection.closed:
        connection.eof_received()
        connection.connection_lost(None)
    elif not ends and not connection.closed and not owner.rests:
        connection.abort(httpx.ReadError("Given up."))
    try:
        async with asyncio.timeout(10):
            answer = await asking
            body = b"".join(await chunks_of(answer.body))
    except httpx.TransportError as error:
        heard = Heard(error=type(error))
    else:
        heard = Heard(answer.status, body, is_kept=owner.rests == 1)
    # A place is given back once, or the connection is kept; nobody waits for it any more.
    assert owner.gone_ == int(connection.closed)
    assert owner.gone_ or owner.rests == 1
    assert connection._answer is None
    assert connection._body is None
    return heard


def heard_by_h11(sent: bytes) -> Heard:
    """The reference: h11 as a client of the same server."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "a"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    status, body = None, b""
    try:
        connection.receive_data(sent)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return Heard(status, body)
            elif not isinstance(event, h11.InformationalResponse):
                return Heard(error=h11.RemoteProtocolError)
    except h11.RemoteProtocolError as error:
        return Heard(error=type(error))


def cut(sent: bytes, places: Sequence[int]) -> list[bytes]:
    """These bytes in pieces that end at these places."""
    ends = sorted({place % (len(sent) + 1) for place in places} | {len(sent)})
    return [sent[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


_names = st.from_regex(re.compile(r"x-[a-z0-9-]{1,20}", re.ASCII), fullmatch=True).map(str.encode)
_values = st.from_regex(re.compile(r"[a-zA-Z0-9 ,;=\"/.-]{0,40}", re.ASCII), fullmatch=True).map(str.encode)
_lines = st.lists(st.tuples(_names, _values), max_size=4).map(
    lambda lines: b"".join(b"%b: %b\r\n" % line for line in lines)
)
_interim = st.builds(b"HTTP/1.1 %d Wait\r\n%b\r\n".__mod__, st.tuples(st.sampled_from([100, 102, 103]), _lines))
_extension = st.sampled_from([b"", b";a", b";a=b", b';a="b c"', b" "])
_size = st.sampled_from([b"%x", b"%X", b"00%x"])


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """A good answer."""
    status = draw(st.sampled_from([200, 200, 200, 201, 299, 400, 404, 429, 500, 503, 204, 304]))
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]))
    reason = draw(st.sampled_from([b" OK", b" ", b"", b" Some Longer Words"]))
    head = b"".join(draw(st.lists(_interim, max_size=3)))
    head += b"%b %d%b\r\n%b" % (version, status, reason, draw(_lines))
    if draw(st.booleans()):
        head += draw(st.sampled_from([b"Connection: close\r\n", b"connection: keep-alive\r\n"]))
    if status in _WITHOUT_BODY:
        return Script(head + b"\r\n", status, b"", closes=False)
    pieces = draw(st.lists(st.binary(min_size=1, max_size=60), max_size=5))
    body = b"".join(pieces)
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    if framing == "length":
        name = draw(st.sampled_from([b"content-length", b"Content-Length", b"CONTENT-LENGTH"]))
        return Script(b"%b%b: %d\r\n\r\n%b" % (head, name, len(body), body), status, body, closes=False)
    if framing == "close":
        return Script(b"%b\r\n%b" % (head, body), status, body, closes=True)
    chunks = b"".join(b"%b%b\r\n%b\r\n" % (draw(_size) % len(piece), draw(_extension), piece) for piece in pieces)
    coding = draw(st.sampled_from([b"chunked", b"Chunked"]))
    end = b"0%b\r\n%b\r\n" % (draw(_extension), draw(_lines))
    return Script(b"%bTransfer-Encoding: %b\r\n\r\n%b%b" % (head, coding, chunks, end), status, body, closes=False)


_TOKENS = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b";", b"0", b"-1", b"f", b"\xff"]
_TOKENS += [b"HTTP/1.1 200 OK\r\n", b"content-length: 3\r\n", b"content-length: 0\r\n", b"connection: close\r\n"]
_TOKENS += [b"transfer-encoding: chunked\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n"]


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A good answer of which a few bytes were lost, added, changed or repeated."""
    sent = bytearray(draw(scripts()).sent)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(sent)))
        length = draw(st.integers(0, 6))
        match draw(st.sampled_from(["lose", "add", "change", "repeat", "end"])):
            case "lose":
                del sent[place : place + length]
            case "add":
                sent[place:place] = draw(st.sampled_from(_TOKENS))
            case "change":
                sent[place : place + length] = draw(st.binary(min_size=length, max_size=length))
            case "repeat":
                sent[place:place] = sent[place : place + 10 * length]
            case _:
                del sent[place:]
    return bytes(sent)
