"""A transport to be translated, that answers as it is told, and what asks through the translation."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson

from app.runtime.byte_budget import Reserve, reserve_nothing
from app.runtime.compute_thread import ComputeThread
from app.settings.upstreams import UpstreamSettings
from app.upstream.chat.chat_transport import ChatTransport
from app.upstream.transport import Answer, AnswerBody, Ask, RawHeaders, UpstreamRequest
from tests.upstream.chat.translated import seal, unseal

SSE = [(b"Content-Type", b"text/event-stream"), (b"x-request-id", b"req_up")]
JSON = [(b"content-type", b"application/json"), (b"content-length", b"5")]
COMPLETION = orjson.dumps({"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}]})


class Body:
    """A body of pieces; a future among them is waited for, and what follows the last is the end or an error."""

    def __init__(self, *pieces: bytes | Awaitable[bytes], error: Exception | None = None) -> None:
        self.pieces = [*pieces]
        self.error = error
        self.is_closed = False
        self.waits: list[float] = []

    @property
    def is_over(self) -> bool:
        return not self.pieces and self.error is None

    def take(self) -> bytes:
        return b""

    async def read(self) -> bytes:
        if self.pieces:
            piece = self.pieces[0]
            said = piece if isinstance(piece, bytes) else await piece
            self.pieces.pop(0)
            return said
        if self.error is not None:
            raise self.error
        return b""

    async def read_soon(self, seconds: float) -> bytes:
        self.waits.append(seconds)
        return await self.read() if self.pieces and isinstance(self.pieces[0], bytes) else b""

    async def forward_ready(self, take: Callable[[bytes], bool]) -> None:
        while self.pieces and isinstance(self.pieces[0], bytes) and take(self.pieces[0]):
            self.pieces.pop(0)

    async def aclose(self) -> None:
        self.is_closed = True


class Inner:
    """The transport within: answers this, and remembers what it was asked."""

    def __init__(self, status: int, headers: RawHeaders, body: Body) -> None:
        self.answer = Answer(status, headers, body)
        self.prepared: list[UpstreamRequest] = []
        self.sent: list[bytes] = []

    def prepare(self, request: UpstreamRequest) -> Ask:
        self.prepared.append(request)

        async def ask(body: bytes, more: RawHeaders, tenant: str = "", reserve: Reserve = reserve_nothing) -> Answer:
            self.sent.append(body)
            return self.answer

        return ask

    async def aclose(self) -> None:
        pass


class Seals:
    def seal(self, project_id: str, content: bytes) -> str:
        return seal(content)

    def open(self, project_id: str, sealed: str) -> bytes:
        return unseal(sealed)


class CountedThread(ComputeThread):
    """A compute thread that remembers the sizes of its jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def run(self, size: int, work: Any, *args: Any) -> Any:  # type: ignore[override]  # of one kind here
        self.sizes.append(size)
        return await super().run(size, work, *args)


def ask_of(
    inner: Inner,
    url: str = "https://one.example/v1/responses",
    method: str = "POST",
    *,
    thread: ComputeThread | None = None,
    max_bytes: int = 100_000,
) -> Ask:
    upstream = UpstreamSettings(name="one", base_url="https://one.example/v1", api="chat")
    transport = ChatTransport(inner, upstream, Seals(), thread or ComputeThread(), max_bytes)
    return transport.prepare(UpstreamRequest(method, httpx.URL(url), httpx.Headers(), 1.0))


async def answered(body: Body, headers: RawHeaders = SSE, status: int = 200, **fields: Any) -> Answer:
    request = {"model": "m", "input": "Hi", "stream": True, **fields}
    return await ask_of(Inner(status, headers, body))(orjson.dumps(request), [])


async def rest(body: AnswerBody) -> bytes:
    read = body.take()
    while more := await body.read():
        read += more
    return read
