"""Clients that mean harm, as a process: `python -m tests.faults.attackers URL SECONDS CONNECTIONS SEED`.

Each connection plays one attack after another until the time is over. Prints how many of each kind were played.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from tests.faults.corpus import CORPUS

_GET = b"GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n"
_POST = (
    b"POST /v1/responses HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %b\r\ncontent-type: application/json\r\n"
)
_CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
_UNKNOWN = b"sk-antiphon-unknown"
# No attack takes longer; what the gateway has not ended by then is left.
_ATTACK_SECONDS = 12.0


class Attacker:
    """One connection after another, each with an attack of its own."""

    def __init__(self, host: str, port: int, chosen: random.Random, played: Counter[str], until: float) -> None:
        self._address = host, port
        self._random = chosen
        self._played = played
        self._until = until

    async def run(self) -> None:
        """Attack until the time is over."""
        attacks: list[Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]]
        attacks = [self.malformed, self.pipelined, self.trailers, self.slow_head, self.slow_body, self.unread]
        while time.monotonic() < self._until:
            attack = self._random.choice(attacks)
            self._played[attack.__name__] += 1
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(min(_ATTACK_SECONDS, max(0.1, self._until - time.monotonic()))):
                    reader, writer = await asyncio.open_connection(*self._address, limit=65_536)
                    try:
                        await attack(reader, writer)
                    finally:
                        writer.transport.abort()
            await asyncio.sleep(self._random.random() / 10)

    async def malformed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A request of the corpus, whole or cut anywhere, with bytes changed here and there."""
        data = bytearray(self._random.choice(CORPUS))
        for _ in range(self._random.choice((0, 0, 1, 3))):
            data[self._random.randrange(len(data))] = self._random.randrange(256)
        writer.write(data[: self._random.choice((len(data), self._random.randrange(1, len(data) + 1)))])
        writer.write_eof()
        await reader.read()

    async def pipelined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """128 KB of requests in one write, again and again, whose answers are hardly read."""
        while True:
            writer.write(_GET * (131_072 // len(_GET)))
            await writer.drain()
            await reader.read(4096)

    async def trailers(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A body without a good key, and trailers without an end."""
        writer.write(_POST % _UNKNOWN + _CHUNKED + b"0\r\n")
        while True:
            writer.write(b"x-forwarded-for: 10.0.0.1\r\n" * 1000)
            await writer.drain()

    async def slow_head(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A head that comes byte by byte."""
        while True:
            for byte in b"GET /livez HTTP/1.1\r\nhost: gateway\r\nx-slow: " + b"s" * 100:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.2)

    async def slow_body(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A body that is announced, and comes byte by byte."""
        writer.write(_POST % _UNKNOWN + b"content-length: 60000000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.2)

    async def unread(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests whose answers nobody reads."""
        for _number in range(2000):
            writer.write(b"GET /openapi.json HTTP/1.1\r\nhost: gateway\r\n\r\n")
            await writer.drain()
        await asyncio.sleep(_ATTACK_SECONDS)


async def _main(url: str, seconds: float, connections: int, seed: int) -> None:
    address = urlsplit(url)
    played: Counter[str] = Counter()
    until = time.monotonic() + seconds
    attackers = [
        Attacker(address.hostname or "", address.port or 0, random.Random(seed + number), played, until)  # noqa: S311
        for number in range(connections)
    ]
    await asyncio.gather(*[attacker.run() for attacker in attackers])
    print(json.dumps(played), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
