"""Note in memory when API keys are used, and write the last uses of all keys once a minute."""

import time
from contextlib import suppress

from app.errors import StorageError
from app.storage.keys.store import KeyStore

WRITE_SECONDS = 60.0
"""Seconds between two writes."""


class LastUsed:
    """Collect the last uses of keys in this process until they are written."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys
        self._last: dict[str, int] = {}

    def note(self, key_id: str) -> None:
        """Note that the key is used now, in memory alone."""
        self._last[key_id] = int(time.time())

    async def write(self) -> None:
        """Write the noted uses; while the database is down they stay noted. Raises StorageError."""
        noted, self._last = self._last, {}
        if noted:
            try:
                await self._keys.note_uses(noted)
            except StorageError:
                self._last = noted | self._last
                raise

    async def aclose(self) -> None:
        """Write the remaining uses; while the database is down they are lost."""
        with suppress(StorageError):
            await self.write()
