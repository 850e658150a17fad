"""A scripted HTTP/1.1 upstream on a real socket, written on bare asyncio so that it can break every rule.

`async with FakeUpstream() as upstream:` serves the demo model at `upstream.url`; `upstream.enqueue(...)` and
`upstream.respond` script it. As a process: `python -m tests.fakes.upstream --port 0 --log FILE` prints its URL.
"""

import argparse
import asyncio
import base64
import contextlib
import inspect
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from tests.fakes.replies import Act, Reply

_READ_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived. `headers` by lower-case name; `connection` numbers the connection it came on."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    closed: asyncio.Event = field(default_factory=asyncio.Event, compare=False)

    @property
    def json(self) -> dict[str, object]:
        parsed = orjson.loads(self.body)
        assert isinstance(parsed, dict)
        return parsed


Respond = Callable[[Recorded], Reply | Awaitable[Reply] | None]


class FakeUpstream:
    """The server. What is enqueued is played first, then what `respond` returns, then the demo model's answer."""

    def __init__(self, port: int = 0, log: Path | None = None) -> None:
        self.requests: list[Recorded] = []
        self.connections = 0
        self.respond: Respond | None = None
        self._port = port
        self._log = log
        self._queue: deque[Reply] = deque()
        self._open: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The base URL, as an upstream's settings name it."""
        return f"{self.origin}/v1"

    def enqueue(self, *replies: Reply) -> None:
        self._queue.extend(replies)

    async def request(self, number: int = 0, timeout: float = 5.0) -> Recorded:
        """The request of this number, counted from 0, once it has arrived."""
        async with asyncio.timeout(timeout), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) > number)
        return self.requests[number]

    @property
    def open_connections(self) -> int:
        return len(self._open)

    async def wait_until_idle(self, timeout: float = 5.0) -> None:
        """Until no connection is open."""
        async with asyncio.timeout(timeout):
            while self._open:
                await asyncio.wait(list(self._open))

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _connected(self) -> asyncio.StreamReaderProtocol:
        reader = _Reader(limit=_READ_LIMIT)
        return asyncio.StreamReaderProtocol(reader, lambda _, writer: self._accept(reader, writer))

    def _accept(self, reader: "_Reader", writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: "_Reader", writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while True:
                request = await _read_request(reader, number)
                reader.watchers.append(request.closed)
                await self._record(request)
                if not await self._play(await self._reply(request), reader, writer):
                    return
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _record(self, request: Recorded) -> None:
        self.requests.append(request)
        async with self._arrived:
            self._arrived.notify_all()
        if self._log is not None:
            line = {
                "method": request.method,
                "path": request.path,
                "headers": dict(request.headers),
                "body": base64.b64encode(request.body).decode(),
            }
            with self._log.open("ab") as log:
                log.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    async def _reply(self, request: Recorded) -> "Reply | AsyncIterator[bytes]":
        if self._queue:
            return self._queue.popleft()
        if self.respond is not None:
            reply = self.respond(request)
            if inspect.isawaitable(reply):
                reply = await reply
            if reply is not None:
                return reply
        return _demo(request)

    async def _play(
        self, reply: "Reply | AsyncIterator[bytes]", reader: "_Reader", writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection is kept for another request."""
        if not isinstance(reply, Reply):
            async for chunk in reply:
                writer.write(chunk)
                await writer.drain()
            return True
        for step in reply.steps:
            match step:
                case Act.STALL:
                    await reader.gone.wait()
                    return False
                case Act.CLOSE:
                    return False
                case Act.RESET:
                    _reset(writer)
                    return False
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case float():
                    await asyncio.sleep(step)
                case asyncio.Event():
                    await step.wait()
        return True


class _Reader(asyncio.StreamReader):
    """A stream reader that tells at once when its peer has gone, even while nothing is read."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)
        self.gone = asyncio.Event()
        self.watchers: list[asyncio.Event] = [self.gone]

    def feed_eof(self) -> None:
        super().feed_eof()
        self._tell()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._tell()

    def _tell(self) -> None:
        for watcher in self.watchers:
            watcher.set()


async def _read_request(reader: _Reader, connection: int) -> Recorded:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {}
    for line in head[1:]:
        if line:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = await _read_chunked(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Recorded(method, path, headers, body, connection)


async def _read_chunked(reader: _Reader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body


async def _demo(request: Recorded) -> AsyncIterator[bytes]:
    from app.demo.endpoint import answer  # noqa: PLC0415 - a scripted upstream needs no demo model

    said = await answer(request.method, request.path.removeprefix("/v1"), request.body)
    yield Reply.head(said.status, {"content-type": said.content_type, "transfer-encoding": "chunked"})
    async for chunk in said.chunks:
        yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


def _reset(writer: asyncio.StreamWriter) -> None:
    """Have the close send RST in place of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _main(port: int, log: Path | None) -> None:
    async with FakeUpstream(port, log) as upstream:
        print(upstream.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(arguments.port, arguments.log))
