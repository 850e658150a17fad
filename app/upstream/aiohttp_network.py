"""The same over aiohttp, for who would rather use a library. Must not know what an account or a fault is."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any, Self, cast
from weakref import WeakSet

import aiohttp
import httpx
from aiohttp.abc import ResolveResult
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport
from yarl import URL

from app.upstream.keep_alive import IDLE_SECONDS
from app.upstream.local_faults import LocalFaultError, local_fault
from app.upstream.proxies import EnvironmentProxies
from app.upstream.reach import OutOfReachError, Reach
from app.upstream.transport import UnansweredError
from app.upstream.tunnel import ProxyRefusedError

# aiohttp buffers twice this much of a stream that its reader does not take.
_READ_BUFFER_BYTES = 8192
_MAX_HEADER_BYTES = 64 * 1024
_MAX_BODY_IN_ONE_WRITE = 512 * 1024
_PIECE_BYTES = 64 * 1024
_FAILURES = (httpx.TransportError, aiohttp.ClientError, OSError)
_UNREACHABLE = (aiohttp.ClientConnectorError, aiohttp.InvalidURL, ssl.SSLError)


class AiohttpNetwork(httpx.AsyncBaseTransport):
    """The connections of the process. It keeps no cookies, follows no redirect, decodes nothing.

    A request's timeouts and the errors are those of app.upstream.network, but `pool` bounds a connection's making too,
    and connections through a proxy are counted apart: a proxy's name is looked up without regard to reach. So are those
    that have to be new, and are closed after one answer.
    """

    def __init__(
        self, tls: ssl.SSLContext, proxies: EnvironmentProxies, max_connections: int, reach: Reach = Reach.ANYWHERE
    ) -> None:
        def session(
            reach: Reach, *middlewares: aiohttp.ClientMiddlewareType, keeps: bool = True
        ) -> aiohttp.ClientSession:
            connector = _Connector(
                limit=max_connections,
                limit_per_host=0,
                ssl=tls,
                resolver=_Resolver(reach),
                **({"keepalive_timeout": IDLE_SECONDS} if keeps else {"force_close": True}),
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
                middlewares=(*middlewares, connector.tell_stale),
            )

        self._proxies = proxies
        self._reach = reach
        # By whether a proxy is on the way, and whether the connection has to be new. Its first request opens each,
        # inside the loop.
        proxied = _ProxyMiddleware(proxies)
        self._sessions = {
            (False, False): AiohttpTransport(verify=tls, client=lambda: session(reach)),
            (False, True): AiohttpTransport(verify=tls, client=lambda: session(reach, keeps=False)),
            (True, False): AiohttpTransport(verify=tls, client=lambda: session(Reach.ANYWHERE, proxied)),
            (True, True): AiohttpTransport(verify=tls, client=lambda: session(Reach.ANYWHERE, proxied, keeps=False)),
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # aiohttp connects to a host that is an address without asking a resolver.
        self._reach.check_host(request.url.raw_host.decode("ascii"))
        is_proxied = self._proxies.on_the_way_to(request.url) is not None
        inner = self._sessions[is_proxied, bool(request.extensions.get("on_new_connection"))]
        timeout = dict(request.extensions.get("timeout", {}))
        # aiohttp counts the wait for the head, and the time that a reader takes, as silence.
        silence = timeout.pop("read", None)
        body = await request.aread()
        headers = request.headers
        stream: httpx.AsyncByteStream = httpx.ByteStream(body)
        if len(body) > _MAX_BODY_IN_ONE_WRITE:
            stream = _Pieces(body)
            headers["content-length"] = str(len(body))
        asked = httpx.Request(
            request.method, request.url, headers=headers, stream=stream, extensions={"timeout": timeout}
        )
        if isinstance(stream, httpx.ByteStream):
            await asked.aread()
        try:
            response = await inner.handle_async_request(asked)
        except _FAILURES as error:
            raise _translated(error) from None
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Body(cast("httpx.AsyncByteStream", response.stream), silence),
            request=request,
        )

    async def aclose(self) -> None:
        for session in self._sessions.values():
            await session.aclose()


class _StaleConnectionError(aiohttp.ClientConnectionError):
    """A connection that something was asked on before was closed without any byte of an answer."""


class _Connector(aiohttp.TCPConnector):
    """Knows which connections something was asked on before."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._asked_on: WeakSet[object] = WeakSet()
        self._on_kept: WeakSet[aiohttp.ClientRequest] = WeakSet()

    async def connect(self, req: aiohttp.ClientRequest, *args: Any, **options: Any) -> Connection:
        connection = await super().connect(req, *args, **options)
        if connection.protocol in self._asked_on:
            self._on_kept.add(req)
        else:
            self._asked_on.add(connection.protocol)
        return connection

    async def tell_stale(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """A middleware: raises _StaleConnectionError where that is what happened."""
        try:
            return await handler(request)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            # The message of a disconnection in the midst of the headers is what there was of them.
            is_whole = not isinstance(error, aiohttp.ServerDisconnectedError) or isinstance(error.message, str)
            if request in self._on_kept and is_whole:
                raise _StaleConnectionError from error
            raise


class _Resolver(aiohttp.ThreadedResolver):
    """Looks names up for aiohttp, which connects to what it is told."""

    def __init__(self, reach: Reach) -> None:
        super().__init__()
        self._reach = reach

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        for each in found:
            self._reach.check(each["host"])
        return found


class _ProxyMiddleware:
    def __init__(self, proxies: EnvironmentProxies) -> None:
        self._proxies = proxies

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        proxy = self._proxies.on_the_way_to(httpx.URL(str(request.url)))
        if proxy is not None:
            request.update_proxy(URL(str(proxy)), None, None)
        return await handler(request)


class _Pieces(httpx.AsyncByteStream):
    """A request's body that is too large for one write."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), _PIECE_BYTES):
            yield self._body[start : start + _PIECE_BYTES]


class _Body(httpx.AsyncByteStream):
    """An answer's body. `silence` is the time, in seconds, that a reader waits for bytes after the first."""

    def __init__(self, stream: httpx.AsyncByteStream, silence: float | None) -> None:
        self._stream = stream
        self._chunks = cast("AsyncGenerator[bytes, None]", aiter(stream))
        self._silence = silence
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            async with asyncio.timeout(self._silence if self._begun else None):
                chunk = await anext(self._chunks)
        except TimeoutError:
            raise httpx.ReadTimeout("The answer fell silent.") from None
        except _FAILURES as error:
            raise _translated(error) from None
        self._begun = True
        return chunk

    async def aclose(self) -> None:
        # RuntimeError: the body is being read by another task, which the closed connection ends.
        with suppress(*_FAILURES, RuntimeError):
            await self._chunks.aclose()
        with suppress(*_FAILURES, RuntimeError):
            await self._stream.aclose()


def _translated(error: Exception) -> httpx.TransportError:
    """The httpx error for what happened. aiohttp's text stays here: it names hosts, and quotes what came.

    The transport below maps most failures to httpx.ConnectTimeout; its cause says what it was.
    """
    if isinstance(error, OutOfReachError):
        return error
    cause = (isinstance(error, httpx.TransportError) and error.__cause__) or error
    fault = local_fault(cause.os_error if isinstance(cause, aiohttp.ClientConnectorError) else cause)
    if fault is not None:
        return LocalFaultError(fault)
    if isinstance(cause, (TimeoutError, httpx.TimeoutException)):
        return httpx.ConnectTimeout("The connection was not made in time.")
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return ProxyRefusedError(cause.status)
    if isinstance(cause, _UNREACHABLE):
        return httpx.ConnectError("The connection could not be made.")
    if isinstance(cause, aiohttp.ClientResponseError):
        return httpx.RemoteProtocolError("What came is not a valid answer.")
    if isinstance(cause, _StaleConnectionError):
        return UnansweredError("The connection was kept, and closed before any byte of another answer.")
    return httpx.ReadError("The connection was closed before the end of an answer.")
