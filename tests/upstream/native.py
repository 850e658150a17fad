"""The native transport as its own tests use it: a request, and what is left of it afterwards."""

import asyncio
from typing import Any

import httpx

from app.upstream.http1 import Connection
from app.upstream.network import Network
from app.upstream.transport import body_of, new_request, timeouts
from tests.fakes.replies import Reply

CHUNKED = Reply.head(200, {"transfer-encoding": "chunked"})


async def ask(
    native: Network, url: str, body: bytes = b"{}", read: float | None = 2.0, wait: float = 2.0
) -> httpx.Response:
    extensions = timeouts(connect_seconds=wait, silence_seconds=read)
    request = new_request("POST", httpx.URL(url), httpx.Headers({"accept": "a"}), body, extensions)
    async with asyncio.timeout(5):
        return await native.handle_async_request(request)


async def whole(native: Network, url: str, body: bytes = b"{}") -> bytes:
    response = await ask(native, url, body)
    async with asyncio.timeout(5):
        return b"".join([chunk async for chunk in body_of(response)])


def kept(native: Network) -> int:
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


class Keeper:
    def __init__(self) -> None:
        self.rests = self.gone_ = 0

    def rested(self, connection: Connection) -> None:
        self.rests += 1

    def gone(self, connection: Connection) -> None:
        self.gone_ += 1
