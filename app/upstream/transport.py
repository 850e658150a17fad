"""The transports to upstream: the network's, and one to a model in this process. Must not know accounts or faults."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Protocol, cast
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from yarl import URL

# Below the idle timeout of every server met (5-75 s), so that a kept connection is rarely a dead one.
_KEEP_ALIVE_SECONDS = 4
# aiohttp buffers twice this much of a stream that its reader does not take.
_READ_BUFFER_BYTES = 8192
_MAX_HEADER_BYTES = 64 * 1024
_MAX_BODY_IN_ONE_WRITE = 512 * 1024
_PIECE_BYTES = 64 * 1024


def network_transport(max_connections: int) -> httpx.AsyncBaseTransport:
    """The one connection pool of the process, opened by the first request inside the loop; to be closed at the end.

    It keeps no cookies, follows no redirect, decodes nothing.
    """
    tls = httpx.create_ssl_context()
    proxies = _EnvironmentProxies()

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=max_connections, limit_per_host=0, keepalive_timeout=_KEEP_ALIVE_SECONDS, ssl=tls
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            # trust_env would read .netrc on every request, and send what it finds there where we send no key.
            trust_env=False,
            middlewares=(proxies,) if proxies else (),
        )

    return AiohttpTransport(verify=tls, client=session)


class _EnvironmentProxies:
    """The proxies that `http_proxy`, `https_proxy` and `no_proxy` name, as an aiohttp middleware."""

    def __init__(self) -> None:
        self._urls = {scheme: URL(url) for scheme, url in getproxies().items() if scheme in {"http", "https"}}

    def __bool__(self) -> bool:
        return bool(self._urls)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if not proxy_bypass(request.url.host or ""):
            request.update_proxy(self._urls.get(request.url.scheme), None, None)
        return await handler(request)


class InProcessAnswer(Protocol):
    """What a model in this process answers."""

    @property
    def status(self) -> int: ...
    @property
    def content_type(self) -> str: ...
    @property
    def chunks(self) -> AsyncIterator[bytes]: ...


class InProcessTransport(httpx.AsyncBaseTransport):
    """Calls `answer(method, path, body)` in place of a server. `path` is the URL's."""

    def __init__(self, answer: Callable[[str, str, bytes], Awaitable[InProcessAnswer]]) -> None:
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._answer(request.method, request.url.path, await request.aread())
        return httpx.Response(
            answer.status,
            headers={"content-type": answer.content_type},
            stream=_InProcessStream(answer.chunks),
            request=request,
        )


class _InProcessStream(httpx.AsyncByteStream):
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._chunks:
            yield chunk

    async def aclose(self) -> None:
        if isinstance(self._chunks, AsyncGenerator):
            await self._chunks.aclose()


def new_request(
    method: str, url: str, headers: dict[str, str], body: bytes, *, connect_timeout_seconds: float
) -> httpx.Request:
    """A request for a transport. The timeout covers the wait for a free connection, DNS, TCP and TLS."""
    content: bytes | AsyncIterator[bytes] = body
    if len(body) > _MAX_BODY_IN_ONE_WRITE:
        content = _pieces(body)
        headers = {**headers, "content-length": str(len(body))}
    # The aiohttp transport reads `pool` as the time for all of it.
    return httpx.Request(
        method, url, headers=headers, content=content, extensions={"timeout": {"pool": connect_timeout_seconds}}
    )


def body_of(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The response's body as it comes off the wire, without httpx's decoding layers."""
    return cast("AsyncGenerator[bytes, None]", aiter(cast("httpx.AsyncByteStream", response.stream)))


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]
