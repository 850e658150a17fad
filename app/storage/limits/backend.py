"""Choose by the settings what counts limits: Valkey, or the database, with one process its own memory."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from app.errors import StorageError
from app.settings.limits import LimitsSettings
from app.state.limit_windows import Counts
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.limits.memory_counts import MemoryCounts
from app.storage.limits.split_counts import SplitCounts

if TYPE_CHECKING:
    from app.storage.limits.valkey_counts import ValkeyCounts


_PATIENCE_SECONDS = 5.0


class LimitBackend:
    """Build `counts`: Valkey where a server is configured, memory for a process that is alone, else the database.

    Budgets are in the database in any case.
    """

    def __init__(self, settings: LimitsSettings, store: DatabaseCounts, *, is_alone: bool) -> None:
        self.store = store
        self._valkey = _valkey(settings)
        self.counts: Counts = store
        if self._valkey is not None:
            self.counts = SplitCounts(self._valkey, store)
        elif is_alone:
            self.counts = SplitCounts(MemoryCounts(), store)

    @property
    def leased(self) -> "Sequence[DatabaseCounts | ValkeyCounts]":
        """Return the counts whose streams are leases that have to be renewed."""
        return (self.store,) if self._valkey is None else (self.store, self._valkey)

    async def aclose(self) -> None:
        """Make the owed reconciliations, if that is soon possible, and close the connections to Valkey."""
        with suppress(StorageError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self.store.reconcile_owed()
        if self._valkey is not None:
            await self._valkey.aclose()


def _valkey(settings: LimitsSettings) -> "ValkeyCounts | None":
    if settings.url is None:
        return None
    # Imported here, because few installations have such a server, and its client is a tenth of the start.
    from app.storage.limits.valkey_counts import ValkeyCounts  # noqa: PLC0415

    return ValkeyCounts(settings.url.get_secret_value())
