"""The seam to what carries calls: the network, any httpx transport, a model in this process. Must not know accounts."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import httpx

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request but for its body. Whatever its headers say, the transport frames it (`host`, `content-length`).

    `connect_seconds` bounds the wait for a place among the connections, and again the making of one; `silence_seconds`
    the silence in the midst of an answer's body. The beginning of an answer is waited for as long as the caller likes.
    `on_new_connection`: not on one that something was asked on before.
    """

    method: str
    url: httpx.URL
    headers: httpx.Headers
    connect_seconds: float
    silence_seconds: float | None = None
    on_new_connection: bool = False


class UnansweredError(httpx.ReadError):
    """A kept connection was closed before any byte of an answer, as by a server that has lost patience.

    A new one that is closed so is not this (RFC 9112 9.3.1): nobody had a reason to close it but the request.
    """


class AnswerBody(Protocol):
    """What follows the head of an answer. Read once, by one task; to be closed."""

    @property
    def is_over(self) -> bool:
        """Whether it is known, without waiting, that it was read to its end."""

    def take(self) -> bytes:
        """All that has come; none when it has to be waited for, or is at its end or broken, as `read` tells."""

    async def read(self) -> bytes:
        """The next bytes; none at its end. Raises one of httpx's errors where that comes too early."""

    async def read_soon(self, seconds: float) -> bytes:
        """The next bytes, if they come in that time; none too where a body cannot be waited for so long."""

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        """Hand what comes to `take` without waking a task, until it declines or the end; at once where that cannot be.

        What it declined, and an error, are there for the next reader.
        """

    async def aclose(self) -> None:
        """Close it, and its connection if that has more to send. Never raises."""


@dataclass(slots=True)
class Answer:
    """The head of an answer, and the body that follows it."""

    status: int
    headers: RawHeaders
    body: AnswerBody

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004 - the definition of 2xx


Ask: TypeAlias = Callable[[bytes, RawHeaders], Awaitable[Answer]]
"""Sends a request with this body, and these headers beside its own; its answer, once the whole head is here.

To be awaited at once. Raises httpx.LocalProtocolError where a line break in a header would make it another request.
"""


class Transport(Protocol):
    """A way to upstreams. Its errors are httpx's and quote nothing.

    After `http1.UnansweredError` a server may never have seen the request, which can be asked on a new connection.
    """

    def prepare(self, request: UpstreamRequest) -> Ask:
        """Do what is the same for every time that this is asked. Raises httpx.TransportError where it cannot be."""

    async def aclose(self) -> None:
        """Close every connection."""


class Chunks:
    """A body that comes in chunks from elsewhere; `close` ends it there."""

    is_over = False

    def __init__(self, chunks: AsyncIterator[bytes], close: Callable[[], Awaitable[None]]) -> None:
        self._chunks = chunks
        self._close = close

    def take(self) -> bytes:
        return b""

    async def read(self) -> bytes:
        return await anext(self._chunks, b"")

    async def read_soon(self, seconds: float) -> bytes:  # noqa: ARG002 - a chunk that is waited for cannot be left
        return b""

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        pass

    async def aclose(self) -> None:
        # RuntimeError: the body is being read by another task, which the closed connection ends.
        with suppress(httpx.TransportError, TimeoutError, RuntimeError):
            await self._close()


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

        async def ask(body: bytes, more: RawHeaders) -> Answer:
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


class InProcessAnswer(Protocol):
    """What a model in this process answers."""

    @property
    def status(self) -> int: ...
    @property
    def content_type(self) -> str: ...
    @property
    def chunks(self) -> AsyncIterator[bytes]: ...


class InProcessTransport:
    """Calls `answer(method, path, body)` in place of a server. `path` is the URL's."""

    def __init__(self, answer: Callable[[str, str, bytes], Awaitable[InProcessAnswer]]) -> None:
        self._answer = answer

    def prepare(self, request: UpstreamRequest) -> Ask:
        async def ask(body: bytes, _: RawHeaders) -> Answer:
            answer = await self._answer(request.method, request.url.path, body)
            chunks = answer.chunks

            async def close() -> None:
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()

            return Answer(answer.status, [(b"content-type", answer.content_type.encode())], Chunks(chunks, close))

        return ask

    async def aclose(self) -> None:
        pass
