"""What stands between the gateway and an upstream in these tests: something that ends TLS, and a proxy."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

# For localhost, upstream.test and 127.0.0.1; good until 2126. Its key protects nothing.
CERTIFICATE = Path(__file__).with_name("localhost.pem")

# Reads what it has to and says where the rest goes; None when it goes nowhere.
Greet = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[int | None]]


def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    return context


@asynccontextmanager
async def passing_on(greet: Greet, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on this port of 127.0.0.1 that passes each connection's bytes on, both ways, to where `greet` says."""
    open_: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_.add(task)
        writers = [writer]
        try:
            port = await greet(reader, writer)
            if port is not None:
                there, back = await asyncio.open_connection("127.0.0.1", port)
                writers.append(back)
                await asyncio.wait(
                    [asyncio.ensure_future(_pipe(reader, back)), asyncio.ensure_future(_pipe(there, writer))]
                )
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            for each in writers:
                each.transport.abort()
            open_.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in open_:
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def with_tls(port: int) -> AsyncIterator[int]:
    """What listens on this port, behind TLS: the port of that."""

    async def greet(*_: object) -> int:
        return port

    async with passing_on(greet, server_tls()) as listening:
        yield listening


@dataclass
class Proxy:
    """A proxy that opens tunnels, all of them to one port, or refuses to. `asked` holds the heads of the requests.

    `left` is set when one whom it refused has closed the connection.
    """

    port: int
    refusal: bytes = b""
    welcome: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
    asked: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.refusal or self.welcome)
        await writer.drain()
        if self.refusal:
            await reader.read()
            self.left.set()
            return None
        return self.port
