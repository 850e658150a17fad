"""Record a usage entry for each call, written in batches a little after its end; recover entries that were lost."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import structlog

from app.errors import StorageError
from app.relay.metering.prices import Prices, Rates
from app.state.usage import UsageEntry
from app.storage.usage.store import UsageStore

_FLUSH_SECONDS = 1.0
# Large writes are cheap ones: a commit costs as much as a hundred entries.
_FLUSH_AT = _LARGEST_WRITE = 2048
# How many entries wait for a database that is away; over that the oldest are dropped.
_MOST_WAITING = 100_000
# How old a stored response is before a missing entry is recovered.
_LATE_SECONDS = 30
RECOVERY_SECONDS = 30.0
"""How often missing entries are looked for."""
# The pause between two batches of the recovery: calls come first.
_PAUSE_SECONDS = 0.1
# What shutdown gives a write that is under way.
_PATIENCE_SECONDS = 5.0

_log = structlog.get_logger("antiphon.ledger")


class UsageRecorder:
    """Queue the entries of calls that have ended, write them, and make lost entries anew from stored responses.

    Invariant: an entry is written once, however often its write is tried: a write is not given up while it may yet be
    committed.
    """

    def __init__(self, store: UsageStore, prices: Prices, *, is_alone: bool = False) -> None:
        self._store = store
        self._prices = prices
        # At the start of a process that is alone no entry is in flight.
        self._late_seconds = 0 if is_alone else _LATE_SECONDS
        self._waiting: deque[UsageEntry] = deque(maxlen=_MOST_WAITING)
        self._full = asyncio.Event()
        self._dropped = 0
        # The batch that is being written, and its outcome.
        self._batch: list[UsageEntry] = []
        self._outcome: asyncio.Future[None] | None = None

    def record(self, entry: UsageEntry) -> None:
        """Queue the entry; returns before it is written."""
        waiting = self._waiting
        if len(waiting) == _MOST_WAITING:
            self._dropped += 1
        waiting.append(entry)
        if len(waiting) == _FLUSH_AT:
            self._full.set()

    async def flush(self) -> None:
        """Write what waits. Raises StorageError, and keeps what was not written for the next flush."""
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
        """Make the entries that stored responses lack: late ones, and all at the start of a process that is alone."""
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

    async def _price(self, entries: Sequence[UsageEntry]) -> None:
        known: dict[tuple[str | None, str, str | None, str | None], Rates | None] = {}
        for entry in entries:
            if entry.usage is None:
                continue
            asked = entry.model_served, entry.model, entry.account, entry.service_tier
            if asked not in known:
                known[asked] = await self._prices.rates(*asked)
            rates = known[asked]
            entry.cost_nano = None if rates is None else rates.cost(entry.usage)
