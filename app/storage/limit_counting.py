"""What counts the limits of a gateway, by its settings, and what that needs beside calls. Must not know the rules."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from app.errors import StorageError
from app.settings_limits import LimitsSettings
from app.state.limits import Counts
from app.storage.limit_store import LimitStore
from app.storage.local_counts import LocalCounts
from app.storage.split_counts import SplitCounts

if TYPE_CHECKING:
    from app.storage.valkey_counts import ValkeyCounts


_PATIENCE_SECONDS = 5.0


class LimitCounting:
    """`counts` is what counts: Valkey's server where there is one; else the store, with a process alone its memory.

    Budgets are in the store in any case.
    """

    def __init__(self, settings: LimitsSettings, store: LimitStore, *, is_alone: bool) -> None:
        self.store = store
        self._valkey = _valkey(settings)
        self.counts: Counts = store
        if self._valkey is not None:
            self.counts = SplitCounts(self._valkey, store)
        elif is_alone:
            self.counts = SplitCounts(LocalCounts(), store)

    @property
    def leased(self) -> "Sequence[LimitStore | ValkeyCounts]":
        """Where open streams are leases that have to be renewed."""
        return (self.store,) if self._valkey is None else (self.store, self._valkey)

    async def aclose(self) -> None:
        """Make the settlements that are owed, if they can be made soon, and close the connections to Valkey."""
        with suppress(StorageError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self.store.settle_owed()
        if self._valkey is not None:
            await self._valkey.aclose()


def _valkey(settings: LimitsSettings) -> "ValkeyCounts | None":
    if settings.url is None:
        return None
    # Here, because few have such a server, and its client is a tenth of a start.
    from app.storage.valkey_counts import ValkeyCounts  # noqa: PLC0415

    return ValkeyCounts(settings.url.get_secret_value())
