"""The native transport as its own tests use it: a request, and what is left of it afterwards."""

import asyncio
from typing import Any

import httpx

from app.upstream.http.connection import READ_BYTES, Connection
from app.upstream.http.http_client import HttpClient
from app.upstream.transport import Answer, AnswerBody, UpstreamRequest
from tests.fakes.replies import Reply

CHUNKED = Reply.head(200, {"transfer-encoding": "chunked"})


async def ask(native: HttpClient, url: str, body: bytes = b"{}", read: float | None = 2.0, wait: float = 2.0) -> Answer:
    request = UpstreamRequest("POST", httpx.URL(url), httpx.Headers({"accept": "a"}), wait, read)
    async with asyncio.timeout(20):
        return await native.prepare(request)(body, [])


async def whole(native: HttpClient, url: str, body: bytes = b"{}") -> bytes:
    answer = await ask(native, url, body)
    async with asyncio.timeout(20):
        return b"".join(await chunks_of(answer.body))


async def chunks_of(body: AnswerBody) -> list[bytes]:
    """What is read of it, to its end."""
    chunks = []
    while chunk := await body.read():
        chunks.append(chunk)
    return chunks


def kept(native: HttpClient) -> int:
    """The connections that the transport holds, in use or idle."""
    return len(native._connections._routes)


class Wire(asyncio.Transport):
    """A transport that leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


def arrives(connection: Connection, data: bytes) -> None:
    """Have the connection read this, as much at once as it takes."""
    for start in range(0, len(data), READ_BYTES):
        piece = data[start : start + READ_BYTES]
        connection.get_buffer(-1)[: len(piece)] = piece
        connection.buffer_updated(len(piece))


class ConnectionOwner:
    def __init__(self) -> None:
        self.rests = self.gone_ = 0
        self.read_buffer = memoryview(bytearray(READ_BYTES))

    def released(self, connection: Connection) -> None:
        self.rests += 1

    def closed(self, connection: Connection) -> None:
        self.gone_ += 1
