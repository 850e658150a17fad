"""What a proxy may answer to CONNECT (RFC 9110 9.3.6), and what of it is a tunnel."""

import asyncio
from typing import cast

import httpx
import pytest

from app.upstream.http.proxy_tunnel import ProxyRefusedError, ProxyTunnel
from tests.upstream.native import Wire

HEAD = b"CONNECT upstream.test:443 HTTP/1.1\r\n\r\n"
OK = b"HTTP/1.1 200 Connection established\r\n"


async def opened(*pieces: bytes, ends: bool = False) -> asyncio.Transport:
    """The transport through a tunnel whose proxy says this, piece by piece."""
    tunnel, wire = ProxyTunnel(), Wire()
    tunnel.connection_made(wire)
    opening = asyncio.ensure_future(tunnel.open(HEAD))
    await asyncio.sleep(0)
    for piece in pieces:
        tunnel.data_received(piece)
    if ends:
        tunnel.connection_lost(None)
    async with asyncio.timeout(5):
        transport = await opening
    assert transport is wire
    return transport


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"\r\n",
        OK + b"content-length: 0\r\n\r\n",
        OK + b"content-length: 100000\r\n\r\n",
        OK + b"content-length: x\r\ncontent-length: y\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n",
        OK + b"content-length: 5\r\n\r\nhello",
        OK + b"connection: close\r\nproxy-agent: p\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 204 \r\n\r\n",
        b"HTTP/1.1 299 Fine\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK + b"\r\n",
    ],
)
async def test_a_2xx_answer_opens_the_tunnel_whatever_it_says_of_a_body_and_however_it_is_cut(answer: bytes) -> None:
    await opened(answer)
    await opened(*[bytes([byte]) for byte in answer])
    for cut in range(1, len(answer)):
        await opened(answer[:cut], answer[cut:])


@pytest.mark.parametrize("status", [101, 301, 400, 401, 403, 407, 502, 503])
async def test_any_other_answer_is_a_refusal_that_is_named(status: int) -> None:
    with pytest.raises(ProxyRefusedError, match=str(status)) as caught:
        await opened(b"HTTP/1.1 %d No\r\ncontent-length: 10\r\n\r\nhalf" % status)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/2.0 200 OK\r\n\r\n", b"ICY 200 OK\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n"]
)
async def test_what_is_no_http_is_no_tunnel(answer: bytes) -> None:
    with pytest.raises(httpx.ProxyError):
        await opened(answer)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_proxy_that_closes_before_it_has_answered_opened_no_tunnel(answer: bytes) -> None:
    with pytest.raises(httpx.ProxyError, match="closed"):
        await opened(answer, ends=True)


async def test_a_head_without_an_end_is_not_kept() -> None:
    with pytest.raises(httpx.ProxyError, match="too large"):
        await opened(OK, *[b"a: %b\r\n" % (b"b" * 1000)] * 70)
    with pytest.raises(httpx.ProxyError, match="too large"):
        await opened(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 3000)


async def test_a_proxy_that_is_gone_before_it_is_asked_opens_no_tunnel() -> None:
    tunnel = ProxyTunnel()
    tunnel.connection_made(cast("asyncio.BaseTransport", Wire()))
    tunnel.connection_lost(None)
    with pytest.raises(httpx.ProxyError):
        await tunnel.open(HEAD)
    tunnel.abort()
