"""Clients that leave at a random moment, as a process: `python -m tests.faults.leavers URL KEY CALLS SEED`.

Streamed and whole calls, stored or not, over sockets that are closed or reset. Prints how many were finished before.
"""

import asyncio
import contextlib
import json
import random
import sys
from typing import Any

from tests.fakes.raw_client import calling

_AT_ONCE = 50
_LONGEST_STAY = 0.08


async def _main(url: str, key: str, calls: int, seed: int) -> None:
    chosen = random.Random(seed)  # noqa: S311 - the same moments in every run
    places = asyncio.Semaphore(_AT_ONCE)
    finished = 0

    async def leave(number: int) -> None:
        nonlocal finished
        stay = chosen.random() * _LONGEST_STAY
        body: dict[str, Any] = {
            "model": chosen.choice(("paced", "at once")),
            "input": f"call {number}",
            "stream": chosen.random() < 0.5,
            "store": chosen.random() < 0.5,
        }
        async with places:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(stay), calling(url, key, **body) as call:
                    await call.rest()
                    finished += 1

    await asyncio.gather(*[leave(number) for number in range(calls)])
    print(json.dumps({"finished": finished}), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
