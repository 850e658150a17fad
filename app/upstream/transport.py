"""The transports to upstream: the network's, and one to a model in this process. Must not know accounts or faults."""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Literal, Protocol

import httpx

from app.upstream.network import Network
from app.upstream.proxies import EnvironmentProxies
from app.upstream.reach import Reach
from app.upstream.request_body import RequestBody


def network_transport(
    kind: Literal["native", "aiohttp"],
    tls: ssl.SSLContext,
    proxies: EnvironmentProxies,
    max_connections: int,
    reach: Reach = Reach.ANYWHERE,
) -> httpx.AsyncBaseTransport:
    """A connection pool, opened by the first request inside the loop; to be closed at the end.

    Its errors are httpx's and quote nothing. After `http1.UnansweredError` a server may never have seen the request.
    What a name leads to is checked against `reach` and then connected to, without another look-up. A proxy is where the
    operator says; what is behind it can be checked where a host is an address, as names are for the proxy to look up.
    """
    if kind == "native":
        return Network(tls, proxies, max_connections, reach)
    # Not at the top: it brings a library of 8 MB, which the usual process does without.
    from app.upstream.aiohttp_network import AiohttpNetwork  # noqa: PLC0415 - see above

    return AiohttpNetwork(tls, proxies, max_connections, reach)


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

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def aclose(self) -> None:
        if isinstance(self._chunks, AsyncGenerator):
            await self._chunks.aclose()


def timeouts(*, connect_seconds: float, silence_seconds: float | None = None) -> Mapping[str, object]:
    """What a request's extensions say: the time to come by a connection, and the silence allowed in its answer."""
    return {"timeout": {"pool": connect_seconds, "connect": connect_seconds, "read": silence_seconds}}


def new_request(
    method: str, url: httpx.URL, headers: httpx.Headers, body: bytes, extensions: Mapping[str, object]
) -> httpx.Request:
    """A request for a transport, which adds what frames it (`host`, `content-length`)."""
    return httpx.Request(method, url, headers=headers, stream=RequestBody(body), extensions=extensions)


def body_of(response: httpx.Response) -> httpx.AsyncByteStream:
    """The response's body as it comes off the wire, without httpx's decoding layers. To be closed."""
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("A transport for asyncio answers with a stream for asyncio.")
    return response.stream
