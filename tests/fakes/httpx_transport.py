"""Any of httpx's transports behind the seam to upstreams: an upstream can be one that a test library plays."""

import httpx

from app.runtime.byte_budget import Reserve, reserve_nothing
from app.upstream.transport import Answer, Ask, Chunks, RawHeaders, UpstreamRequest


class HttpxTransport:
    """Any of httpx's transports."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    def prepare(self, request: UpstreamRequest) -> Ask:
        connect = request.connect_seconds
        extensions = {
            "timeout": {"pool": connect, "connect": connect, "read": request.silence_seconds},
            "on_new_connection": request.on_new_connection,
        }

        async def ask(body: bytes, more: RawHeaders, tenant: str = "", reserve: Reserve = reserve_nothing) -> Answer:
            headers = [*request.headers.raw, *more]
            response = await self._inner.handle_async_request(
                httpx.Request(request.method, request.url, headers=headers, content=body, extensions=extensions)
            )
            # The stream, not the response: that would decode.
            stream = response.stream
            if not isinstance(stream, httpx.AsyncByteStream):
                raise TypeError("A transport for asyncio answers with a stream for asyncio.")
            return Answer(response.status_code, response.headers.raw, Chunks(aiter(stream), stream.aclose))

        return ask

    async def aclose(self) -> None:
        await self._inner.aclose()
