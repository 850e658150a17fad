"""The ledger: an entry for each call, written a little after its end. Must not know what a call says."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import structlog

from app.errors import StorageError
from app.relay.prices import Prices, Rates
from app.state.ledger import Entry
from app.storage.usage_store import UsageStore

_FLUSH_SECONDS = 1.0
# Large writes are cheap ones: a commit costs as much as a hundred entries.
_FLUSH_AT = _LARGEST_WRITE = 2048
# How many entries wait for a database that is away; then the oldest go.
_MOST_WAITING = 100_000
# How old a stored response is whose entry has not come.
_LATE_SECONDS = 30
RECOVERY_SECONDS = 30.0
"""How often they are looked for."""
# Between two looks, while there is much to go through: calls come first.
_PAUSE_SECONDS = 0.1
# What shutdown gives a write that is under way.
_PATIENCE_SECONDS = 5.0

_log = structlog.get_logger("antiphon.ledger")


class Ledger:
    """Takes the entries of calls that have ended, and what stored responses tell of calls whose entries were lost.

    Invariant: an entry is written once, however often its write is tried: a write is not given up while it may yet be
    committed.
    """

    def __init__(self, store: UsageStore, prices: Prices, *, is_alone: bool = False) -> None:
        self._store = store
        self._prices = prices
        # A process that is alone knows at its start that no entry is on its way.
        self._late_seconds = 0 if is_alone else _LATE_SECONDS
        self._waiting: deque[Entry] = deque(maxlen=_MOST_WAITING)
        self._full = asyncio.Event()
        self._dropped = 0
        # What is being written, and the outcome of that.
        self._batch: list[Entry] = []
        self._outcome: asyncio.Future[None] | None = None

    def record(self, entry: Entry) -> None:
        """Keep the entry; returns before it is written."""
        waiting = self._waiting
        if len(waiting) == _MOST_WAITING:
            self._dropped += 1
        waiting.append(entry)
        if len(waiting) == _FLUSH_AT:
            self._full.set()

    async def flush(self) -> None:
        """Write what waits. Raises StorageError, and keeps what was not written for the next time."""
        if self._dropped:
            _log.warning("usage was dropped, because the database was away for long", count=self._dropped)
            self._dropped = 0
        self._full.clear()
        while self._batch or self._waiting:
            if not self._batch:
                some = min(len(self._waiting), _LARGEST_WRITE)
                self._batch = [self._waiting.popleft() for _ in range(some)]
            if self._outcome is None:
                await self._price(self._batch)
                self._outcome = self._store.record(self._batch)
            try:
                await asyncio.shield(self._outcome)
            except StorageError:
                self._outcome = None
                raise
            self._outcome, self._batch = None, []

    async def flush_when_due(self) -> None:
        """Write what waits after a second, and sooner when it is much. Raises as `flush` does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._full.wait()
        await self.flush()

    async def recover(self) -> None:
        """Make the entries that stored responses lack: late ones, and at the start of one that is alone, all."""
        while True:
            found, swept = await self._store.unrecorded(int(time.time()), self._late_seconds)
            if swept is None:
                break
            await self._price(found)
            await self._store.record(found, swept)
            if found:
                _log.info("usage was recovered from stored responses", count=len(found))
            await asyncio.sleep(_PAUSE_SECONDS)
        self._late_seconds = _LATE_SECONDS

    async def aclose(self) -> None:
        """Write the rest, once nothing is recorded any more."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self.flush()
        except (StorageError, TimeoutError):
            _log.warning("usage was lost at shutdown", count=len(self._batch) + len(self._waiting))

    async def _price(self, entries: Sequence[Entry]) -> None:
        known: dict[tuple[str | None, str, str | None, str | None], Rates | None] = {}
        for entry in entries:
            if entry.usage is None:
                continue
            asked = entry.model_served, entry.model, entry.account, entry.service_tier
            if asked not in known:
                known[asked] = await self._prices.rates(*asked)
            rates = known[asked]
            entry.cost_nano = None if rates is None else rates.cost(entry.usage)
