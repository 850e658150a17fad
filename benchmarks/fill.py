"""Fills a database with copies of its one stored response, through the product's own store.

`python -m benchmarks.fill DATA_DIR RESPONSE_ID FIRST COUNT SECONDS`, with no gateway running: COUNT responses that
nobody continues, numbered from FIRST, or as many as can be written in this time; then some chains, numbered likewise.
It prints how many responses there were.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

from app.boot.installation import open_installation
from app.runtime.compute_thread import ComputeThread
from app.security.key_ring import KeyRing
from app.security.master_secret import read_secret
from app.settings.gateway import load_settings
from app.state.records import ApiKey, Item, StoredResponse, Turn
from app.storage.engine.database import Database
from app.storage.responses.store import ResponseStore
from app.storage.writer.writer import Writer

CHAINS = 100
CHAIN_TURNS = 10

_KEPT_SECONDS = 30 * 86_400
# Longer ago than the grace that a purge gives.
_EXPIRED_SECONDS = 86_400
_AT_ONCE = 1024
_PATIENCE_SECONDS = 60.0


def response_id(number: int) -> str:
    """The id of the response with this number: as random as real ones."""
    return f"resp_{_digits('response', number)}"


def chain_turn_id(chain: int, turn: int) -> str:
    """The id of a turn, from 0, of the chain with this number."""
    return f"resp_{_digits('chain', chain, turn)}"


class Filler:
    """Writes copies of a stored response, each with ids of its own."""

    def __init__(self, store: ResponseStore, caller: ApiKey, original_id: str, turn: Turn, body: bytes) -> None:
        self._store = store
        self._caller = caller
        self._original_id = original_id.encode()
        self._turn = turn
        self._items = turn.items
        self._body = body
        self._now = int(time.time())

    async def fill_expired(self, count: int) -> None:
        """Write so many responses whose time is over."""

        async def save_in_turn(first: int) -> None:
            for number in range(first, count, _AT_ONCE):
                await self._save(f"resp_{_digits('expired', number)}", kept_seconds=-_EXPIRED_SECONDS)

        await asyncio.gather(*map(save_in_turn, range(_AT_ONCE)))

    async def fill(self, first: int, count: int, seconds: float) -> int:
        """Write responses from `first` on, up to `count` of them, then the chains; how many responses it were."""
        deadline, written = time.monotonic() + seconds, 0

        async def save_in_turn() -> None:
            nonlocal written
            while written < count and time.monotonic() < deadline:
                written += 1
                await self._save(response_id(first + written - 1))

        await asyncio.gather(*(save_in_turn() for _ in range(_AT_ONCE)))
        await asyncio.gather(*(self._save_chain(number) for number in range(first, first + CHAINS)))
        return written

    async def _save_chain(self, number: int) -> None:
        parent = None
        for turn in range(CHAIN_TURNS):
            own_id = chain_turn_id(number, turn)
            await self._save(own_id, parent)
            chain = await self._store.read_chain(self._caller.project_id, own_id, self._now)
            parent = chain.key if chain else None

    async def _save(self, own_id: str, parent: int | None = None, kept_seconds: int = _KEPT_SECONDS) -> None:
        await self._store.save(
            StoredResponse(
                id=own_id,
                project_id=self._caller.project_id,
                api_key_id=self._caller.id,
                parent_key=parent,
                status=self._turn.status,
                model="bench",
                account=self._turn.account,
                created_at=self._now,
                expires_at=self._now + kept_seconds,
                body=self._body.replace(self._original_id, own_id.encode()),
                usage=None,
                items=tuple(
                    Item(f"msg_{_digits(own_id, place)}", item.type, item.is_output, item.content)
                    for place, item in enumerate(self._items)
                ),
            )
        )


@asynccontextmanager
async def opened_filler(data: Path, original_id: str) -> AsyncIterator[tuple[Filler, Database, Writer, ApiKey]]:
    """A filler of the installation in this data folder, with its database and its first key."""
    settings = load_settings({"data_dir": data, "commit_timeout_seconds": _PATIENCE_SECONDS}).storage
    async with open_installation(settings, KeyRing(read_secret(settings), settings.previous_secrets)) as installation:
        (key,) = [key for key in await installation.keys.list() if key.name == "first"]
    database = Database(settings.url, settings.pool_size, settings.commit_timeout_seconds)
    writer = Writer(database, settings.commit_timeout_seconds)
    try:
        store, now = ResponseStore(database, writer, ComputeThread()), int(time.time())
        chain = await store.read_chain(key.project_id, original_id, now)
        body = await store.read_body(key.project_id, original_id, now)
        if chain is None or body is None:
            raise LookupError(f"{original_id} is not stored")
        yield Filler(store, key, original_id, chain.turns[0], body), database, writer, key
    finally:
        await writer.aclose()
        await database.aclose()


async def main(data: Path, original_id: str, first: int, count: int, seconds: float) -> None:
    """Fill the database, and tell how many responses that were."""
    async with opened_filler(data, original_id) as (filler, *_):
        print(await filler.fill(first, count, seconds))


def _digits(*parts: object) -> str:
    return sha256(repr(parts).encode()).hexdigest()[:48]


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
