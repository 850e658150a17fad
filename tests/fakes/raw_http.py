"""A bare HTTP/1.1 client for the live tests: sends the bytes it is given, right or wrong, and reads whole answers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import orjson

_TIMEOUT_SECONDS = 60.0
_CONTINUE = 100
_READ_LIMIT = 64 * 1024 * 1024
_PASSING_HEADERS = frozenset({"date", "x-request-id"})


@dataclass(frozen=True)
class Answer:
    """One answer, its body put together again. `headers` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def lasting(self) -> tuple[int, Mapping[str, str], bytes]:
        """All of it that does not differ between two answers to one question."""
        kept = {name: value for name, value in self.headers.items() if name not in _PASSING_HEADERS}
        return self.status, kept, self.body


class RawClient:
    """One connection. `ask` sends a proper request; `send` and `answer` are for the others."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Self]:
        """Connect to the host and port of this URL."""
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=_READ_LIMIT)
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    async def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Send one request, its length announced unless the headers frame it in another way; read its answer."""
        framing = {} if "transfer-encoding" in headers else {"content-length": str(len(body))}
        await self.send(head(method, target, {**framing, **headers}) + body)
        return await self.answer()

    async def send(self, raw: bytes) -> None:
        self._writer.write(raw)
        await self._writer.drain()

    async def answer(self) -> Answer:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            status, headers = await self._head()
            while status == _CONTINUE:
                status, headers = await self._head()
            return Answer(status, headers, await self._body(headers))

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await self._reader.read()

    async def _head(self) -> tuple[int, Mapping[str, str]]:
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self._reader.readexactly(int(headers["content-length"]))
        body = bytearray()
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return bytes(body)


def head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request."""
    lines = [f"{method} {target} HTTP/1.1", "host: gateway", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunked(*chunks: bytes) -> bytes:
    """A body in chunked framing."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
