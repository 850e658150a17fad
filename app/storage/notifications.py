"""Tell the other replicas which runs have changed, and hear it from them: NOTIFY and LISTEN of PostgreSQL.

A notification may be lost: with its connection, or behind a pooler that hands the session to somebody else. So nothing
may wait for one alone. What changes often is told twenty times a second and no more.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.errors import StorageError
from app.ids import new_id
from app.storage.database import Database
from app.storage.location import Location

if TYPE_CHECKING:
    import psycopg

_CHANNEL = "antiphon_runs"
_LISTEN_SECONDS = 10.0
# PostgreSQL takes 8,000 bytes; a key has up to 19.
_KEYS_AT_ONCE = 350
# What nobody could be told for so long is left to those who look for themselves.
_MOST_UNTOLD = 10_000


class Notifications:
    """What this process tells of runs, by their keys. What it has told itself, it does not hear."""

    def __init__(self, url: str, database: Database) -> None:
        self._url = Location.parse(url).url
        self._database = database
        self._name = new_id("replica")
        self._untold: dict[int, None] = {}
        self._has_some = asyncio.Event()
        self._connection: psycopg.AsyncConnection | None = None

    def tell(self, key: int) -> None:
        """Have the other replicas hear of this run soon."""
        if len(self._untold) < _MOST_UNTOLD:
            self._untold[key] = None
            self._has_some.set()

    async def send(self) -> None:
        """Wait until there is something to be told, and tell it. Raises StorageError."""
        await self._has_some.wait()
        keys = list(self._untold)[:_KEYS_AT_ONCE]
        for key in keys:
            del self._untold[key]
        if not self._untold:
            self._has_some.clear()
        said = select(func.pg_notify(_CHANNEL, f"{self._name} {' '.join(map(str, keys))}"))
        await self._database.read(lambda connection: connection.execute(said))

    async def listen(self, heard: Callable[[int], None]) -> None:
        """Call `heard` with each run that other processes tell of in the next seconds, on a connection that is kept.

        Raises StorageError when it is lost: the next call makes another.
        """
        # Here, because SQLite does without its driver.
        from app.storage.postgres import listening, readable  # noqa: PLC0415

        try:
            if self._connection is None:
                self._connection = await listening(self._url, _CHANNEL)
            await readable(self._connection, _LISTEN_SECONDS)
            async for notification in self._connection.notifies(timeout=0):
                name, *keys = notification.payload.split(" ")
                for key in keys if name != self._name else ():
                    heard(int(key))
        except Exception as error:
            await self.aclose()
            raise StorageError("The database's notifications cannot be heard.") from error

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
