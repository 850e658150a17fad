"""When API keys were last used: noted as they are, kept once a minute for all of them together."""

import time
from contextlib import suppress

from app.errors import StorageError
from app.storage.key_store import KeyStore

WRITE_SECONDS = 60.0
"""How often they are kept."""


class KeyUses:
    """What this process has noted since it last wrote it down."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys
        self._last: dict[str, int] = {}

    def note(self, key_id: str) -> None:
        """The key is used now. Costs no more than that."""
        self._last[key_id] = int(time.time())

    async def write(self) -> None:
        """Keep what was noted; while the database is down it stays noted."""
        noted, self._last = self._last, {}
        if noted:
            try:
                await self._keys.note_uses(noted)
            except StorageError:
                self._last = noted | self._last
                raise

    async def aclose(self) -> None:
        """Write what is left; while the database is down it is lost."""
        with suppress(StorageError):
            await self.write()
