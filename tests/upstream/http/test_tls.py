"""Upstreams behind TLS, and behind a proxy, on real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx
import pytest

from app.upstream.http.http_client import HttpClient
from app.upstream.http.proxies import EnvironmentProxies
from app.upstream.transport import Transport
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.middlemen import CERTIFICATE, Proxy, passing_on, server_tls, with_tls
from tests.upstream.rig import EVENTS, SSE, NetworkOf, failure, rig, upstream_settings

BOTH_LOOPS = True
pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


@pytest.fixture
async def tls_port(upstream: FakeUpstream) -> AsyncIterator[int]:
    """Where the upstream is reached by TLS."""
    async with with_tls(port_of(upstream)) as port:
        yield port


def port_of(upstream: FakeUpstream) -> int:
    port = httpx.URL(upstream.origin).port
    assert port is not None
    return port


async def test_an_answer_comes_through_tls_and_its_connection_is_used_again(
    upstream: FakeUpstream, tls_port: int, transport: Transport
) -> None:
    upstream.enqueue(Reply.sse(EVENTS, pause=0.01), Reply.json(200, {"id": 1}))
    for host in ("localhost", "localhost"):
        one = rig(transport, upstream_settings(f"https://{host}:{tls_port}/v1"))
        assert await one.read() in (SSE, b'{"id":1}')
    assert upstream.connections == 1
    assert upstream.requests[0].headers["host"] == f"localhost:{tls_port}"
    assert upstream.requests[0].headers["authorization"].startswith("Bearer ")


async def test_a_body_of_20_megabytes_arrives_intact_through_tls(
    upstream: FakeUpstream, tls_port: int, transport: Transport
) -> None:
    body = b'{"input":"' + bytes(range(48, 58)) * 2_000_000 + b'"}'
    upstream.enqueue(Reply.json(200, {"id": 1}))
    assert await rig(transport, upstream_settings(f"https://127.0.0.1:{tls_port}/v1")).read(body) == b'{"id":1}'
    assert upstream.requests[0].body == body


async def test_an_answer_of_20_megabytes_arrives_intact_through_tls(
    upstream: FakeUpstream, tls_port: int, transport: Transport
) -> None:
    upstream.enqueue(Reply.body(200, b"0123456789" * 2_000_000))
    assert (
        await rig(transport, upstream_settings(f"https://127.0.0.1:{tls_port}/v1")).read() == b"0123456789" * 2_000_000
    )


async def test_a_certificate_for_another_name_is_refused(
    upstream: FakeUpstream, tls_port: int, network: NetworkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(tls_port)
    async with passing_on(proxy.greet) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        async with network(10) as transport:
            error = await failure(rig(transport, upstream_settings("https://other.test/v1")).open())
    assert error.code == "upstream_unreachable"
    assert proxy.asked
    assert upstream.requests == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    upstream: FakeUpstream, tls_port: int, network: NetworkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with network(10) as transport:
        error = await failure(rig(transport, upstream_settings(f"https://localhost:{tls_port}/v1")).open())
    assert error.code == "upstream_unreachable"
    assert upstream.requests == []


async def test_closing_an_answer_closes_its_tls_connection(
    upstream: FakeUpstream, tls_port: int, transport: Transport
) -> None:
    upstream.enqueue(Reply.sse(EVENTS[:1], then=Act.STALL))
    answer = await rig(transport, upstream_settings(f"https://localhost:{tls_port}/v1")).open()
    assert await answer.read() == EVENTS[0]
    await answer.aclose()
    await upstream.wait_until_idle()


async def test_an_https_upstream_is_reached_through_a_tunnel(
    upstream: FakeUpstream, tls_port: int, network: NetworkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(tls_port)
    async with passing_on(proxy.greet) as port:
        monkeypatch.setenv("https_proxy", f"http://user:p%40ss@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "inside.test")
        upstream.enqueue(Reply.sse(EVENTS), Reply.sse(EVENTS))
        async with network(10) as transport:
            one = rig(transport, upstream_settings("https://upstream.test/v1"))
            assert await one.read() == SSE
            assert await one.read() == SSE
    (asked,) = proxy.asked
    assert asked.startswith(b"CONNECT upstream.test:443 HTTP/1.1\r\n")
    assert b"proxy-authorization: basic dxnlcjpwqhnz" in asked.lower()
    assert b"bearer" not in asked.lower()
    assert upstream.connections == 1
    assert upstream.requests[0].path == "/v1/responses"
    assert upstream.requests[0].headers["host"] == "upstream.test"
    assert "proxy-authorization" not in upstream.requests[0].headers


@pytest.mark.parametrize(
    "welcome",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
async def test_a_tunnel_begins_where_the_head_of_the_proxys_answer_ends(
    welcome: bytes, upstream: FakeUpstream, tls_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(tls_port, welcome=welcome)
    async with passing_on(proxy.greet) as port:
        monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{port}")
        upstream.enqueue(Reply.sse(EVENTS))
        async with aclosing(HttpClient(httpx.create_ssl_context(), EnvironmentProxies(), 10)) as transport:
            assert await rig(transport, upstream_settings("https://upstream.test/v1")).read() == SSE
    assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        b"HTTP/1.1 502 No\r\ncontent-length: 9\r\n\r\nsomething",
        b"HTTP/1.1 502 No\r\ncontent-length: 9\r\n\r\nsome",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_an_upstream_out_of_reach(
    refusal: bytes, upstream: FakeUpstream, network: NetworkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(port_of(upstream), refusal)
    async with passing_on(proxy.greet) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        async with network(10) as transport:
            error = await failure(rig(transport, upstream_settings("https://upstream.test/v1")).open())
            await asyncio.wait_for(proxy.left.wait(), 20)
    assert error.status == 502
    assert b"CONNECT" in proxy.asked[0]
    assert upstream.requests == []


async def test_a_proxy_that_is_spoken_to_by_tls_passes_both_kinds_on(
    upstream: FakeUpstream, tls_port: int, network: NetworkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(tls_port)
    async with passing_on(proxy.greet, server_tls()) as port, with_tls(port_of(upstream)) as reading:
        monkeypatch.setenv("https_proxy", f"https://localhost:{port}")
        monkeypatch.setenv("http_proxy", f"https://localhost:{reading}")
        async with network(10) as transport:
            upstream.enqueue(Reply.sse(EVENTS), Reply.sse(EVENTS))
            assert await rig(transport, upstream_settings("https://upstream.test/v1")).read() == SSE
            assert await rig(transport, upstream_settings("http://plain.test/v1")).read() == SSE
    assert len(proxy.asked) == 1
    assert [request.path for request in upstream.requests] == ["/v1/responses", "http://plain.test/v1/responses"]
