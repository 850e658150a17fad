"""One tenant that calls as fast as it can, as a process: `python -m tests.faults.tenant KEY write|read CLIENTS URL…`.

Makes conversations, then changes (or reads) them in any order over all the gateways, until its input ends. Prints how
many calls were answered, and how many of them by an error.
"""

import asyncio
import itertools
import json
import random
import sys
from urllib.parse import urlsplit

_CONVERSATIONS = 6


class Tenant:
    """Clients that share conversations."""

    def __init__(self, key: str, *, writes: bool) -> None:
        self._key = key.encode()
        self._writes = writes
        self._numbers = itertools.count()
        self.conversations: list[str] = []
        self.answered = 0
        self.refused = 0
        self.is_over = False

    async def call(self, url: str) -> None:
        """Call until it is over, over one connection."""
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while len(self.conversations) < _CONVERSATIONS:
            self.conversations.append(json.loads((await self._ask(reader, writer, "POST", "", b"{}"))[1])["id"])
        while not self.is_over:
            path = f"/{random.choice(self.conversations)}"  # noqa: S311 - no secret
            changed = b'{"metadata":{"n":"%d"}}' % next(self._numbers)
            method, body = ("POST", changed) if self._writes else ("GET", b"")
            status, _ = await self._ask(reader, writer, method, path, body)
            self.answered += 1
            self.refused += status != 200
        writer.close()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str, body: bytes
    ) -> tuple[int, bytes]:
        writer.write(
            b"%b /v1/conversations%b HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (method.encode(), path.encode(), self._key, len(body), body)
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head.split(b" ")[1]), await reader.readexactly(length)


async def _main(key: str, kind: str, clients: int, urls: list[str]) -> None:
    tenant = Tenant(key, writes=kind == "write")
    running = [asyncio.ensure_future(tenant.call(urls[number % len(urls)])) for number in range(clients)]
    print("calling", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    tenant.is_over = True
    await asyncio.gather(*running)
    print(json.dumps({"answered": tenant.answered, "refused": tenant.refused}), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
