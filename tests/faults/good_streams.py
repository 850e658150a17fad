"""Clients that mean well, as a process: `python -m tests.faults.good_streams URL KEY STREAMS`, until its input ends.

Keeps this many paced streams open, each checked byte by byte. Prints how many were whole, and
how others were not.
"""

import asyncio
import json
import sys

from tests.fakes.raw_client import calling
from tests.faults.upstream import frames


class GoodStreams:
    """Streams one after another on each of some connections."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        self.whole = 0
        self.faults: list[str] = []
        self.is_over = False

    async def run(self, name: str) -> None:
        """Stream until it is over."""
        number = 0
        while not self.is_over:
            number += 1
            said = f"{name} {number}"
            try:
                async with calling(self._url, self._key, model="paced", input=said) as call:
                    received = await call.rest()
            except (OSError, EOFError, TimeoutError) as error:
                self.faults.append(f"{said}: {error!r}")
            else:
                if received == b"".join(frames(said)):
                    self.whole += 1
                else:
                    self.faults.append(f"{said}: {call.status} {received[-200:]!r}")


async def _main(url: str, key: str, streams: int) -> None:
    good = GoodStreams(url, key)
    running = [asyncio.ensure_future(good.run(f"stream {number}")) for number in range(streams)]
    await asyncio.to_thread(sys.stdin.read)
    good.is_over = True
    await asyncio.gather(*running)
    print(json.dumps({"whole": good.whole, "faults": good.faults[:20]}), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
