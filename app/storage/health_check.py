"""Check that the database answers, takes writes and has this version's schema; keep the finding for a second."""

import asyncio
from collections.abc import Mapping

from app.errors import StorageError
from app.storage.engine.database import Database
from app.storage.schema_migration import is_current

_AGAIN_SECONDS = 1.0


class HealthCheck:
    """Ask the database at most once a second, however many clients ask: a probe needs no API key."""

    def __init__(self, database: Database, again_seconds: float = _AGAIN_SECONDS) -> None:
        self._database = database
        self._again_seconds = again_seconds
        self._looking = asyncio.Lock()
        self._found: Mapping[str, str] = {}
        self._due = 0.0

    async def report(self) -> Mapping[str, str]:
        """Return "ok" or what is wrong for each check, in words that hold no secret."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if not self._found or loop.time() >= self._due:
                self._found = await self._look()
                self._due = loop.time() + self._again_seconds
            return self._found

    async def _look(self) -> Mapping[str, str]:
        found = {"database": "ok", "schema": "ok"}
        try:
            await self._database.check_writable()
            if not await is_current(self._database):
                found["schema"] = "run `antiphon migrate`"
        except StorageError as error:
            found["database"] = error.message
        return found
