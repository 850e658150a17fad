"""A client on a bare socket: it sees each chunk as the gateway wrote it, and leaves or stops reading when it likes."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson

CHAT = "/chat/completions"
_SECONDS = 60.0


class RawCall:
    """One create call whose request has been sent. `received` holds the body so far, without its HTTP framing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.received = b""
        self._reader = reader
        self._writer = writer

    @property
    def port(self) -> int:
        """The client's own port."""
        port: int = self._writer.get_extra_info("sockname")[1]
        return port

    async def head(self) -> None:
        """Read the status line and the headers."""
        async with asyncio.timeout(_SECONDS):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:]) if name
        }

    async def chunk(self, seconds: float = _SECONDS) -> bytes:
        """The next chunk, or the whole of a body with a length; empty at the end. TimeoutError when none comes."""
        async with asyncio.timeout(seconds):
            if not self.status:
                await self.head()
            if "content-length" in self.headers:
                data = await self._reader.readexactly(int(self.headers.pop("content-length")))
            elif "transfer-encoding" in self.headers:
                size = int(await self._reader.readuntil(b"\r\n"), 16)
                data = (await self._reader.readexactly(size + 2))[:-2]
            else:
                data = b""
        self.received += data
        return data

    async def until(self, mark: bytes) -> bytes:
        """Read until this is in the body; returns the body so far."""
        while mark not in self.received:
            assert await self.chunk(), f"the answer ended without {mark!r}: {self.received!r}"
        return self.received

    async def rest(self) -> bytes:
        """Read to the end; returns the whole body."""
        while await self.chunk():
            pass
        return self.received

    def leave(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()


@asynccontextmanager
async def calling(
    url: str, key: str, *, path: str = "/responses", receive_buffer: int | None = None, **body: Any
) -> AsyncIterator[RawCall]:
    """POST this body to a path of the gateway's, over a connection of its own."""
    said = {"messages": [{"role": "user", "content": "Hello!"}]} if path == CHAT else {"input": "Hello!"}
    payload = orjson.dumps({"model": "demo", **said, "stream": True, **body})
    address = urlsplit(url)
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, (address.hostname, address.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer or 16 * 1024 * 1024)
    writer.write(
        b"POST /v1%b HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %b\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (path.encode(), key.encode(), len(payload), payload)
    )
    try:
        yield RawCall(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
