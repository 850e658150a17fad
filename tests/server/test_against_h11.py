"""Our reader against h11: what both take they take as the same requests, and we alone refuse what is listed here."""

import re
from dataclasses import dataclass

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.requests import Heard

Requests = list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]]

# A part of our message, and what has to be in the bytes for it, where h11 takes what we refuse; and why we do.
STRICTER: tuple[tuple[str, bytes, str], ...] = (
    ("", rb"(?<!\r)\n", "a line may end in LF alone for h11 (RFC 9112 §2.2); two readers would cut it in two ways"),
    ("its headers is not", rb"\n[ \t]", "a folded line is obsolete, and to be refused or replaced (§5.2)"),
    ("Transfer-Encoding", rb"(?i)content-length", "a length beside chunks is how requests are smuggled (§6.1)"),
    ("Transfer-Encoding", rb"HTTP/1\.0", "chunks in HTTP/1.0 are faulty framing (§6.1)"),
    ("two headers", rb"(?i)content-length|authorization|content-type|expect", "the second contradicts the first"),
    ("not a number", rb"(?i)content-length:[^\r]*,", "h11 takes a list of equal lengths, which §6.3 lets us refuse"),
    ("Host header is not", rb"(?i)host:", "h11 does not read the value (§3.2)"),
    ("This server speaks", rb"HTTP/[02-9]\.[0-9]", "h11 leaves the version to who uses it (RFC 9110 §15.6.6)"),
    ("target", rb"^(?:\r\n)?\S+ [^/]|#", "h11 leaves the target to who uses it (§3.2)"),
    ("no proxy", rb"CONNECT", "h11 leaves the method to who uses it"),
    ("expectation", rb"(?i)expect:", "h11 leaves expectations to who uses it (RFC 9110 §10.1.1)"),
    ("a chunk of its body", rb"[0-9a-fA-F][ \t]+\r\n", "h11 takes spaces behind a chunk's size (§7.1)"),
    ("a chunk of its body", rb"[0-9a-fA-F]{16}", "h11 takes a size of 20 digits, and we of 15"),
    ("does not begin", rb"^\S{33}", "our methods have at most 32 letters"),
    ("its headers is not", rb"[\x01-\x08\x0b-\x1f\x7f]", "h11 takes control characters in a value (RFC 9110 §5.5)"),
)
# What we take and h11 does not.
LAXER: tuple[tuple[bytes, str], ...] = ((rb"^\r\n", "one empty line before a request is to be ignored (§2.2)"),)


@dataclass
class Outcome:
    """Whole requests, and whether what came behind was refused."""

    requests: Requests
    is_refused: bool
    message: str = ""


def ours(raw: bytes) -> Outcome:
    heard = Heard().feed(raw)
    told: Requests = []
    for head, body in heard.requests:
        # h11 shows a target as it came: only of those that are paths ours is that again.
        target = head.raw_path + (b"?" + head.query if head.query else b"")
        told.append((head.method.encode(), target, head.headers, bytes(body)))
    return Outcome(told, heard.error is not None, str(heard.error or ""))


def theirs(raw: bytes) -> Outcome:
    told: Requests = []
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(raw)
    head, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                told.append((head.method, head.target, [(bytes(n), bytes(v)) for n, v in head.headers], body))
                connection.send(h11.Response(status_code=400, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return Outcome(told, is_refused=False)
                connection.start_next_cycle()
            else:
                return Outcome(told, is_refused=False)
    except h11.RemoteProtocolError as error:
        return Outcome(told, is_refused=True, message=str(error))


LINE = st.sampled_from(
    [
        *([b"POST /v1/responses?a=%20b HTTP/1.1"] * 12),
        *(b"DELETE //x HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET / HTTP/1.0", b"GET / HTTP/2.0", b"GET /"),
        *(b"GET  / HTTP/1.1", b"CONNECT a:80 HTTP/1.1", b"GET http://a/b HTTP/1.1", b"BREW /#pot HTTP/1.1"),
        *(b"GET / http/1.1", b"\r\nGET / HTTP/1.1"),
    ]
)
HOST = st.sampled_from([*([[b"Host: a"]] * 9), [], [b"host:b", b"Host: a"], [b"Host: a b"]])
ODD = st.sampled_from(
    [
        *(b"Accept: */*", b"X:", b"X: \t a, b \t", b"X : a", b" X: a", b"X: a\r\n b", b"X: \xe9", b"X: a\x00b"),
        *(b"X: a\x01", b"X\xe9: a", b": a", b"X", b"Authorization: Bearer x", b"Expect: 100-continue", b"Expect: x"),
        *(b"Connection: close", b"Connection: keep-alive", b"Upgrade: h2c", b"Connection: upgrade", b"Trailer: t"),
        *(b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked"),
    ]
)
LENGTH = st.sampled_from([b"3", b"3", b"03", b"3, 3", b"-1", b"+3", b"9999999999999999999999", b"x"])
CHUNKS = st.sampled_from(
    [
        *(
            b"3\r\nabc\r\n0\r\n\r\n",
            b"03;a=b\r\nabc\r\n0\r\nt: u\r\nhost: c\r\n\r\n",
            b"1\r\na\r\n2\r\nbc\r\n00\r\n\r\n",
        ),
        *(b"3 \r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"3\r\nabc\r\n 2\r\nde\r\n0\r\n\r\n", b"zz\r\n"),
        *(
            b"0000000000000000000003\r\nabc\r\n0\r\n\r\n",
            b"0\r\nt\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"0\r\nt : u\r\n\r\n",
        ),
    ]
)
BODY: st.SearchStrategy[tuple[list[bytes], bytes]] = st.one_of(
    st.just(([], b"")),
    st.tuples(LENGTH.map(lambda length: [b"Content-Length: " + length]), st.just(b"abc")),
    st.tuples(st.just([b"Transfer-Encoding: chunked"]), CHUNKS),
)
END = st.sampled_from([b"\r\n"] * 15 + [b"\n"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Something like a request: most of it right, so that what is wrong shows."""
    framing, body = draw(BODY)
    fields = [*draw(HOST), *draw(st.lists(ODD, max_size=2)), *framing]
    return draw(END).join([draw(LINE), *draw(st.permutations(fields)), b"", b""]) + body


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Something like the bytes of a connection, with a mistake or two."""
    stream = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        place = draw(st.integers(0, len(stream)))
        typo = draw(
            st.sampled_from([b"", b" ", b"\r", b"\n", b"\r\n", b":", b",", b"\x00", b"0", b"\t", b";", b"\xff"])
        )
        stream = stream[:place] + typo + stream[place + draw(st.integers(0, 1)) :]
    return stream


def is_listed(message: str, raw: bytes) -> bool:
    return any(part in message and re.search(pattern, raw) for part, pattern, _ in STRICTER)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(streams())
def test_our_reader_takes_what_h11_takes_and_as_the_same(raw: bytes) -> None:
    we, they = ours(raw), theirs(raw)
    common = min(len(we.requests), len(they.requests))
    for (method, target, headers, body), other in zip(we.requests[:common], they.requests[:common], strict=True):
        told = [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in headers]
        assert (method, told, body) == (other[0], other[2], other[3])
        assert target == other[1] or not other[1].startswith(b"/")
    if len(we.requests) < len(they.requests):
        assert we.is_refused, they.requests[common:]
        assert is_listed(we.message, raw), we.message
    elif they.is_refused and len(we.requests) > common:
        assert any(re.search(pattern, raw) for pattern, _ in LAXER), they.message
    elif they.is_refused and not we.is_refused:
        # We wait for more where h11 knows already that it can be nothing, or the other way round.
        assert ours(raw + b"\r\n\r\n" * 2).is_refused, they.message


def test_every_difference_that_is_listed_is_one() -> None:
    samples = {
        "LF alone": b"GET / HTTP/1.1\nHost: a\n\n",
        "a folded line": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "chunks and a length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n",
        "no host": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "a fragment": b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
        "an expectation": b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n",
    }
    for name, raw in samples.items():
        we, they = ours(raw), theirs(raw)
        assert (we.is_refused, they.is_refused, len(they.requests)) == (True, False, 1), name
        assert is_listed(we.message, raw), name
