"""Streams of runs in the background that are read up to a word and left, or kept open. Must not know what they cost."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.target import Target

_CONNECTIONS = 100
_ID = b'"id":"'
_SECONDS = 30


class Streams:
    """Streams of a gateway's runs, so many opened at once. Those that stay are open until the end."""

    def __init__(self, gateway: Target, ending: ExitStack, failures: list[str]) -> None:
        self._gateway = gateway
        self._ending = ending
        self._failures = failures
        self._free = asyncio.Semaphore(_CONNECTIONS)

    async def open(self, requests: Sequence[bytes], *, stay: bool = True) -> tuple[list[str], float]:
        """Open all of these. Returns the ids of their responses, and the seconds that it took."""
        began = time.perf_counter()
        opened = await asyncio.gather(*(self.begin(request, stay=stay) for request in requests))
        return [response_id for response_id, _ in opened], time.perf_counter() - began

    async def begin(self, request: bytes, said: bytes = b"", *, stay: bool = False) -> tuple[str, float]:
        """The id of the response, and the seconds until the stream has told it, and then said this."""
        async with self._free:
            began = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", self._gateway.port)
            self._ending.callback(writer.close)
            writer.write(request)
            try:
                async with asyncio.timeout(_SECONDS):
                    await reader.readuntil(_ID)
                    response_id = (await reader.readuntil(b'"'))[:-1].decode()
                    if said:
                        await reader.readuntil(said)
            except (asyncio.IncompleteReadError, TimeoutError) as error:
                self._failures.append(f"a stream ended by {type(error).__name__}")
                response_id = ""
            if not stay:
                writer.close()
            return response_id, time.perf_counter() - began
