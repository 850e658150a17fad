"""The load: raw HTTP/1.1 connections that each send one request after another."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_AT = re.compile(rb'"obfuscation":"(\d{20})"')
_END = b"0\r\n\r\n"
_EVENT = b"\nevent: "


@dataclass
class Outcome:
    """What was seen of a load. Times in seconds, one for each request; `delays` one for each delta with a time."""

    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    events: int = 0
    failures: int = 0
    last_body: bytes = b""


class Connection(asyncio.Protocol):
    """One keep-alive connection; `ask` sends a request and waits for the whole answer."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def ask(self, request: bytes) -> None:
        self._answered = asyncio.get_running_loop().create_future()
        self._received = bytearray()
        self._missing: int | None = None
        self._tail = b""
        self._started = time.perf_counter()
        self._transport.write(request)
        await self._answered

    def data_received(self, data: bytes) -> None:
        if not self._received:
            self._outcome.first_bytes.append(time.perf_counter() - self._started)
        if self._missing is None:
            self._received += data
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            if b" 200" not in self._received[:16]:
                self._outcome.failures += 1
            length = _LENGTH.search(self._received, 0, end)
            self._missing = int(length[1]) + end + 4 if length else 0
            data = bytes(self._received[end:])
        elif self._missing:
            self._received += data
        if self._missing:
            if len(self._received) >= self._missing:
                self._finish(bytes(self._received))
            return
        now = time.monotonic_ns()
        self._outcome.events += (self._tail + data).count(_EVENT)
        self._outcome.delays.extend((now - int(at)) / 1e9 for at in _AT.findall(data) if not at.startswith(b"99"))
        self._tail = data[-len(_EVENT) + 1 :]
        if data.endswith(_END):
            self._finish(b"")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._answered is not None and not self._answered.done():
            self._outcome.failures += 1
            self._answered.set_result(None)

    def _finish(self, body: bytes) -> None:
        self._outcome.latencies.append(time.perf_counter() - self._started)
        self._outcome.last_body = body
        if self._answered is not None:
            self._answered.set_result(None)


async def drive(port: int, request: bytes, *, connections: int, each: int) -> Outcome:
    """Send `each` requests on every one of these connections at once."""
    outcome = Outcome()

    async def one() -> None:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(outcome), "127.0.0.1", port
        )
        for _ in range(each):
            await connection.ask(request)
        connection._transport.close()  # noqa: SLF001 - the same module's own

    await asyncio.gather(*(one() for _ in range(connections)))
    return outcome


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which this share lies; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0
