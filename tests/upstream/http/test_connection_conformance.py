"""What RFC 9112 and RFC 9110 ask of a client, by servers on real sockets. The rows: docs/http-conformance.md."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

import httpx
import pytest

from app.upstream.http.http_client import HttpClient
from app.upstream.http.proxies import EnvironmentProxies
from app.upstream.http.route import Route
from app.upstream.transport import UpstreamRequest
from tests.upstream.middlemen import CERTIFICATE, server_tls
from tests.upstream.native import ask, chunks_of, kept
from tests.upstream.rig import serving

BOTH_LOOPS = True
pytestmark = pytest.mark.live

OK = b"HTTP/1.1 200 OK\r\n"
FIVE = b"content-length: 5\r\n\r\nhello"
CODED = OK + b"transfer-encoding: chunked\r\n"
CHUNKS = b"\r\n5\r\nhello\r\n0\r\n\r\n"

KEPT: Mapping[str, bytes] = {
    "a status line without a reason": b"HTTP/1.1 200 \r\n" + FIVE,
    "a status line without the blank before a reason": b"HTTP/1.1 200\r\n" + FIVE,
    "an empty line before the status line": b"\r\n" + OK + FIVE,
    "an empty value": OK + b"x:\r\n" + FIVE,
    "bytes beyond ASCII in a value": OK + b"x: \xff\r\n" + FIVE,
    "blanks around a length": OK + b"content-length: \t5 \t\r\n\r\nhello",
    "a length with zeros before it": OK + b"content-length: 0005\r\n\r\nhello",
    "a folded value": OK + b"x: a\r\n\tb\r\n" + FIVE,
    "a folded length": OK + b"content-length:\r\n 5\r\n\r\nhello",
    "a folded coding": OK + b"transfer-encoding:\r\n chunked\r\n" + CHUNKS,
    "a coding in other letters": OK + b"Transfer-Encoding: Chunked\r\n" + CHUNKS,
    "a blank behind a coding": OK + b"transfer-encoding: chunked \r\n" + CHUNKS,
    "chunk sizes with zeros before them": CODED + b"\r\n0005\r\nhello\r\n000\r\n\r\n",
    "blanks behind a chunk's size": CODED + b"\r\n5  \r\nhello\r\n0\r\n\r\n",
    "a chunk's size in capital letters": CODED + b"\r\nA\r\nhellohello\r\n0\r\n\r\n",
    "an answer of HTTP/1.0 that is kept": b"HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\n" + FIVE,
}

CLOSED: Mapping[str, bytes] = {
    "close among others": OK + b"connection: keep-alive, Close\r\n" + FIVE,
    "close in a second line": OK + b"connection: keep-alive\r\nconnection: close\r\n" + FIVE,
    "chunks from HTTP/1.0, which knows none": b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n"
    b"transfer-encoding: chunked\r\n" + CHUNKS,
    "a trailer that would be framing": CODED + b"\r\n5\r\nhello\r\n0\r\ntransfer-encoding: gzip\r\n\r\n",
    "more than the length": OK + b"content-length: 5\r\n\r\nhello!",
}

REFUSED: Mapping[str, bytes] = {
    "a blank before a colon": OK + b"x : a\r\n" + FIVE,
    "a blank before the colon of a length": OK + b"content-length : 5\r\n\r\nhello",
    "a blank before the colon of a coding": OK + b"transfer-encoding : gzip\r\n\r\nhello",
    "a blank that hides the second of two codings": CODED + b"transfer-encoding : gzip\r\n" + CHUNKS,
    "a tab behind a coding": OK + b"transfer-encoding: chunked\t\r\n" + CHUNKS,
    "an empty fold behind a coding": CODED + b" \r\n" + CHUNKS,
    "a coding after a fold": OK + b"transfer-encoding: gzip,\r\n chunked\r\n" + CHUNKS,
    "an empty coding": OK + b"transfer-encoding:\r\n" + CHUNKS,
    "a length after a fold": OK + b"content-length: 5\r\n 6\r\n\r\nhello",
    "two lengths in one": OK + b"content-length: 5 5\r\n\r\nhello",
    "a name that is empty": OK + b": a\r\n" + FIVE,
    "a name beyond ASCII": OK + b"x\xc3: a\r\n" + FIVE,
    "a CR alone in a value": OK + b"x: a\rb\r\n" + FIVE,
    "a version in small letters": b"http/1.1 200 OK\r\n" + FIVE,
    "a version of two digits": b"HTTP/1.10 200 OK\r\n" + FIVE,
}


@asynccontextmanager
async def saying(answer: bytes) -> AsyncIterator[str]:
    """A server that gives this answer to every request on a connection, and closes none."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            assert b"content-length: 2\r\n" in head
            await reader.readexactly(2)
            writer.write(answer)

    async def until_it_is_left(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    async with serving(until_it_is_left) as address:
        yield f"http://{address}/"


async def heard(native: HttpClient, url: str) -> bytes:
    async with asyncio.timeout(20):
        return b"".join(await chunks_of((await ask(native, url)).body))


@pytest.mark.parametrize("name", KEPT)
async def test_a_good_answer_is_read_as_it_is_meant_and_its_connection_kept(native: HttpClient, name: str) -> None:
    async with saying(KEPT[name]) as url, aclosing(native):
        assert [await heard(native, url) for _ in range(2)] == [b"hellohello" if "capital" in name else b"hello"] * 2
        assert kept(native) == 1


@pytest.mark.parametrize("name", CLOSED)
async def test_an_answer_that_is_its_connections_last_is_read_and_the_connection_closed(
    native: HttpClient, name: str
) -> None:
    async with saying(CLOSED[name]) as url:
        assert await heard(native, url) == b"hello"
        assert kept(native) == 0


@pytest.mark.parametrize("name", REFUSED)
async def test_an_answer_that_could_be_read_in_two_ways_is_an_error(native: HttpClient, name: str) -> None:
    async with saying(REFUSED[name]) as url:
        with pytest.raises(httpx.RemoteProtocolError):
            await heard(native, url)
        assert kept(native) == 0


async def test_a_folded_header_has_blanks_for_its_fold_and_a_trailer_is_no_header(native: HttpClient) -> None:
    async with saying(CODED + b"x: a\r\n  b\r\n\r\n0\r\nx: trailer\r\n\r\n") as url, aclosing(native):
        answer = await ask(native, url)
        assert await answer.body.read() == b""
        (value,) = [value for name, value in answer.headers if name == b"x"]
        assert value.split() == [b"a", b"b"]


@pytest.mark.parametrize(
    ("url", "line", "host"),
    [
        ("http://a.test", b"POST / HTTP/1.1", b"a.test"),
        ("http://a.test:80/v1/x?beta=true", b"POST /v1/x?beta=true HTTP/1.1", b"a.test"),
        ("http://a.test:8080/a%2Fb", b"POST /a%2Fb HTTP/1.1", b"a.test:8080"),
        ("http://[::1]:8080/x", b"POST /x HTTP/1.1", b"[::1]:8080"),
        ("https://user:word@a.test/x", b"POST /x HTTP/1.1", b"a.test"),
    ],
)
def test_a_request_names_the_host_of_its_url_and_nothing_else_of_it(url: str, line: bytes, host: bytes) -> None:
    target = httpx.URL(url)
    head = Route(target, None).head("POST", target.raw_path, [(b"host", b"other.test"), (b"a", b"b")])
    assert head == b"%b\r\nhost: %b\r\na: b\r\n" % (line, host)


async def test_a_request_without_a_body_has_a_length_only_where_its_method_expects_a_body(native: HttpClient) -> None:
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(OK + FIVE)
        await reader.read()

    async with serving(talk) as address, aclosing(native):
        for method in ("GET", "POST"):
            request = UpstreamRequest(method, httpx.URL(f"http://{address}/"), httpx.Headers(), 2.0)
            answer = await native.prepare(request)(b"", [])
            assert b"".join(await chunks_of(answer.body)) == b"hello"
    assert [b"content-length" in head for head in heads] == [False, True]
    assert b"content-length: 0\r\n" in heads[1]


@pytest.mark.parametrize(
    "framing", [b"content-length: 9\r\n\r\nhello", b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"]
)
@pytest.mark.parametrize("says_goodbye", [True, False])
async def test_an_answer_that_tls_ends_before_its_end_is_an_error(
    framing: bytes, says_goodbye: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    network = HttpClient(httpx.create_ssl_context(), EnvironmentProxies(), 2)
    async with ending_tls(OK + framing, says_goodbye=says_goodbye) as port, aclosing(network):
        body = (await ask(network, f"https://localhost:{port}/")).body
        assert await body.read() == b"hello"
        with pytest.raises(httpx.ReadError):
            await body.read()


@asynccontextmanager
async def ending_tls(answer: bytes, *, says_goodbye: bool) -> AsyncIterator[int]:
    """A server that answers once by TLS and ends it, with the alert that TLS has for that or by closing the socket."""

    def answer_one() -> None:
        accepted, _ = listener.accept()
        with server_tls().wrap_socket(accepted, server_side=True) as wrapped:
            wrapped.recv(65_536)
            wrapped.sendall(answer)
            with suppress(OSError):
                if says_goodbye:
                    wrapped.unwrap()
                wrapped.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = asyncio.ensure_future(asyncio.to_thread(answer_one))
        yield listener.getsockname()[1]
        await answering
