"""The load: raw HTTP/1.1 connections that each send one request after another. Must not know who answers."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
# The time at which the upstream sent a delta; of an unpaced one it is all nines.
_AT = re.compile(rb'"delta": *"(?!99)(\d{20})"')
_END = b"0\r\n\r\n"
_EVENT = b"\ndata: {"
_LAST_EVENT = re.compile(rb'"type": *"response\.completed"')


@dataclass
class Outcome:
    """What was seen of a load. Times in seconds, one for each request; `delays` one for each delta with a time.

    `failures` are the status lines of answers that are no 200, and what else went wrong.
    """

    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    events: int = 0
    terminal_events: int = 0
    failures: list[str] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One keep-alive connection; `ask` sends a request and waits for the whole answer."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._answered: asyncio.Future[bytes] | None = None
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def ask(self, request: bytes, due: float | None = None) -> bytes:
        """The body of a whole answer, b"" for a stream's. `due` is when it should have been asked (perf_counter)."""
        if self._lost:
            self._outcome.failures.append("no connection")
            return b""
        self._answered = asyncio.get_running_loop().create_future()
        self._received = bytearray()
        self._missing: int | None = None
        self._previous = b""
        self._started = due or time.perf_counter()
        self._transport.write(request)
        return await self._answered

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        if not self._received:
            self._outcome.first_bytes.append(time.perf_counter() - self._started)
        if self._missing is None:
            self._received += data
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            if b" 200" not in self._received[:16]:
                self._outcome.failures.append(self._received[: self._received.find(b"\r")].decode())
            length = _LENGTH.search(self._received, 0, end)
            self._body_at = end + 4
            self._missing = int(length[1]) + self._body_at if length else 0
            data = bytes(self._received[end:])
        elif self._missing:
            self._received += data
        if self._missing:
            if len(self._received) >= self._missing:
                self._finish(bytes(self._received[self._body_at :]))
            return
        self._see_events(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._lost = True
        if self._answered is not None and not self._answered.done():
            self._outcome.failures.append("cut off")
            self._answered.set_result(b"")

    def _see_events(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self._outcome.events += (self._previous[-len(_EVENT) + 1 :] + data).count(_EVENT)
        self._outcome.delays.extend((now - int(at)) / 1e9 for at in _AT.findall(data))
        if data.endswith(_END):
            # An event may come in two pieces.
            self._outcome.terminal_events += bool(_LAST_EVENT.search(self._previous + data))
            self._finish(b"")
        self._previous = data

    def _finish(self, body: bytes) -> None:
        self._outcome.latencies.append(time.perf_counter() - self._started)
        if self._answered is not None:
            self._answered.set_result(body)


@asynccontextmanager
async def connected(port: int, outcome: Outcome) -> AsyncIterator[Connection]:
    """A connection to this loopback port that tells its outcome."""
    _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(outcome), "127.0.0.1", port)
    try:
        yield connection
    finally:
        connection.close()


async def drive(
    port: int, requests: Sequence[bytes], *, connections: int, each: int, rate: float | None = None
) -> Outcome:
    """Send `each` requests on every one of these connections, taking them from `requests` in turn.

    Without a rate a connection sends the next request when it has the answer to the last. With one (a second, over all
    of them) requests have their times, and one that has to wait for its connection counts from its own time.
    """
    outcome = Outcome()
    started = time.perf_counter()

    async def one(first: int) -> None:
        async with connected(port, outcome) as connection:
            for number in range(first, connections * each, connections):
                request = requests[number % len(requests)]
                if rate is None:
                    await connection.ask(request)
                    continue
                due = started + number / rate
                early = due - time.perf_counter()
                if early > 0:
                    # Counted from when it is sent: a timer's imprecision is nobody's latency.
                    await asyncio.sleep(early)
                await connection.ask(request, None if early > 0 else due)

    await asyncio.gather(*map(one, range(connections)))
    return outcome


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which this share lies; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0
