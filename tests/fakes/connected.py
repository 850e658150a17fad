"""A connection over a fake transport, with an app that answers when it may."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from app.runtime.write_coalescer import WriteCoalescer
from app.server.file_descriptors import ConnectionLimit
from app.server.http.loop_fairness import PipelineTurns
from app.server.http.protocol import HttpProtocol

LIVEZ = b"GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: gateway\r\ncontent-length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = {"type": "http.response.body", "body": b""}
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}

App = Callable[[Any, Any, Any], Awaitable[None]]


class Transport:
    """What a connection asks of its transport."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_reading = True
        self.is_ended = self.is_closed = self.is_aborted = False

    def write(self, data: bytes) -> None:
        assert not self.is_ended
        self.sent += data

    def write_eof(self) -> None:
        self.is_ended = True

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_extra_info(self, _name: str) -> None: ...

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True


class AppFake:
    """An app that answers as often as it may, and notes what it was asked."""

    def __init__(self, *, reads: bool = True) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.faults: list[str] = []
        self.may_answer = asyncio.Semaphore(0)
        self._reads = reads

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", self._reads
        try:
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
        except Exception as error:  # noqa: BLE001 - it is what the test is about
            self.faults.append(str(error))
        self.asked.append((scope["method"], body))
        await self.may_answer.acquire()
        await send(START)
        await send(DONE)

    async def answer(self, count: int = 1) -> None:
        for _ in range(count):
            self.may_answer.release()
            await turns()


class Connected:
    """A connection of an app, with its transport."""

    def __init__(self, app: App) -> None:
        self.state, self.transport = ServerState(), Transport()
        # No test waits for the end of an idle connection.
        config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_keep_alive=600)
        limit = ConnectionLimit(most=1)
        self.protocol = HttpProtocol(
            config,
            self.state,
            {},
            coalescer=WriteCoalescer(),
            turns=PipelineTurns(),
            connections=limit,
            write_timeout_seconds=60,
        )
        to: Any = self.transport
        self.protocol.connection_made(to)

    async def sends(self, *pieces: bytes) -> None:
        for piece in pieces:
            assert self.transport.is_reading, "it was read from a connection that was paused"
            self.protocol.data_received(piece)
            await turns()

    @property
    def statuses(self) -> list[bytes]:
        return [answer[:3] for answer in self.transport.sent.split(b"HTTP/1.1 ")[1:]]

    @property
    def held(self) -> int:
        return len(self.protocol._reader._unread)


async def turns(count: int = 12) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)
