"""Define the interface of what carries calls: our HTTP client or a model in this process."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import httpx

from app.errors import InvalidRequestError, UpstreamError
from app.runtime.byte_budget import Reserve, reserve_nothing

_OF_INPUT = re.compile(r"input\[(\d+)\](.*)")

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """Describe a request without its body. The transport sets `host` and `content-length` itself.

    `connect_seconds` bounds the wait for a free connection, and again the making of one; `silence_seconds` the silence
    within an answer's body. The caller bounds the wait for the first byte. `on_new_connection`: only on a connection
    that carried no request before.
    """

    method: str
    url: httpx.URL
    headers: httpx.Headers
    connect_seconds: float
    silence_seconds: float | None = None
    on_new_connection: bool = False


class UnansweredError(httpx.ReadError):
    """Report that a kept connection was closed before any byte of an answer, as after a server's idle timeout.

    A new connection that is closed so is another error (RFC 9112 9.3.1): only the request can be the reason.
    """


class UnfitRequestError(UpstreamError):
    """Report that a parameter cannot be put in the terms of this upstream, though another may take it as it is.

    `items` is the length of the input in which its path counts. Where the `cause` is an error of the API, its words
    and its code are told.
    """

    default_status = 400
    default_code = "unsupported_parameter"
    type = "invalid_request_error"

    def __init__(self, path: str, items: int = 0, *, cause: InvalidRequestError | None = None) -> None:
        super().__init__(
            f"Unsupported parameter: '{path}' is not supported by the chat upstream that serves this model."
            if cause is None
            else cause.message,
            param=path,
        )
        self.code = self.default_code if cause is None else cause.code
        self.items = items

    def as_asked(self, own_items: int) -> "UnfitRequestError":
        """Return the error for a caller who has sent the last so many items, behind a history that they only name."""
        path = self.param or ""
        counted = _OF_INPUT.fullmatch(path)
        if counted is None:
            return self
        place = int(counted[1]) - (self.items - own_items)
        asked = f"input[{place}]{counted[2]}" if place >= 0 else "input"
        words = InvalidRequestError(self.message.replace(f"'{path}'", f"'{asked}'"), code=self.code)
        return UnfitRequestError(asked, cause=words)


class AnswerBody(Protocol):
    """Read the body of an answer, once, by one task; it must be closed."""

    @property
    def is_over(self) -> bool:
        """Tell whether the body is known, without waiting, to be read to its end."""

    def take(self) -> bytes:
        """Return all that has come; nothing when the body has to be waited for, is at its end or broke off."""

    async def read(self) -> bytes:
        """Return the next bytes; nothing at the end. Raises one of httpx's errors where the body breaks off."""

    async def read_soon(self, seconds: float) -> bytes:
        """Return the next bytes if they come within this time; nothing else, or where a body cannot be waited for."""

    async def forward_ready(self, take: Callable[[bytes], bool]) -> None:
        """Hand bytes to `take` as they come, without waking a task, until it declines or the body ends.

        A body that cannot do so returns at once. Bytes that were declined, and an error, are there for the next reader.
        """

    async def aclose(self) -> None:
        """Close the body, and its connection if more would come. Never raises."""


@dataclass(slots=True)
class Answer:
    """Hold the head of an answer, and its body.

    `dropped` names the parameters that a translation left out: no upstream can say it in a header.
    """

    status: int
    headers: RawHeaders
    body: AnswerBody
    dropped: bytes = b""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004 - the definition of 2xx


class Ask(Protocol):
    """Send a request with this body and further headers; return its answer once the whole head is here.

    To be awaited at once. The `tenant` is the project that asks: what is sealed for its clients is sealed for it. With
    `reserve` a translation reserves what it holds of an answer; that may raise ApiError. Raises
    httpx.LocalProtocolError where a line break in a header would make it another request, and UnfitRequestError before
    anything is sent.
    """

    def __call__(
        self, body: bytes, more: RawHeaders, tenant: str = "", reserve: Reserve = reserve_nothing, /
    ) -> Awaitable[Answer]: ...


class Transport(Protocol):
    """Carry requests to upstreams. Its errors are httpx's and quote nothing.

    After `UnansweredError` the server may never have seen the request, which can be sent again on a new connection.
    """

    def prepare(self, request: UpstreamRequest) -> Ask:
        """Do what is the same each time a request is sent. Raises httpx.TransportError where it cannot be sent."""

    async def aclose(self) -> None:
        """Close every connection."""


class Chunks:
    """Read an `AnswerBody` from an iterator of chunks; `close` ends the source."""

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

    async def forward_ready(self, take: Callable[[bytes], bool]) -> None:
        pass

    async def aclose(self) -> None:
        # RuntimeError: the body is being read by another task, which the closed connection ends.
        with suppress(httpx.TransportError, TimeoutError, RuntimeError):
            await self._close()


class InProcessAnswer(Protocol):
    """Answer as a model in this process."""

    @property
    def status(self) -> int: ...
    @property
    def content_type(self) -> str: ...
    @property
    def chunks(self) -> AsyncIterator[bytes]: ...


class InProcessTransport:
    """Call `answer(method, path, body)` in place of a server. `path` is the URL's."""

    def __init__(self, answer: Callable[[str, str, bytes], Awaitable[InProcessAnswer]]) -> None:
        self._answer = answer

    def prepare(self, request: UpstreamRequest) -> Ask:
        async def ask(body: bytes, _more: RawHeaders, _tenant: str = "", _reserve: Reserve = reserve_nothing) -> Answer:
            answer = await self._answer(request.method, request.url.path, body)
            chunks = answer.chunks

            async def close() -> None:
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()

            return Answer(answer.status, [(b"content-type", answer.content_type.encode())], Chunks(chunks, close))

        return ask

    async def aclose(self) -> None:
        pass
