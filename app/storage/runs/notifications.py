"""Notify the other replicas of runs that have changed, by PostgreSQL's NOTIFY, and LISTEN to theirs.

A notification may be lost: with its connection, or behind a pooler that gives the session to other clients. So nothing
may wait for a notification alone. Changes are sent together, at most twenty times a second.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.errors import StorageError
from app.ids import new_id
from app.storage.engine.database import Database
from app.storage.engine.location import DatabaseLocation

if TYPE_CHECKING:
    import psycopg

_CHANNEL = "antiphon_runs"
_LISTEN_SECONDS = 10.0
# PostgreSQL takes 8,000 bytes; a key has up to 19.
_KEYS_AT_ONCE = 350
# Beyond these, unsent notifications are dropped: replicas also look at the table.
_MOST_UNSENT = 10_000


class Notifications:
    """Send and receive the keys of changed runs, without this process's own."""

    def __init__(self, url: str, database: Database) -> None:
        self._url = DatabaseLocation.parse(url).url
        self._database = database
        self._name = new_id("replica")
        self._unsent: dict[int, None] = {}
        self._has_some = asyncio.Event()
        self._connection: psycopg.AsyncConnection | None = None

    def tell(self, key: int) -> None:
        """Notify the other replicas of this run, by the next `send`."""
        if len(self._unsent) < _MOST_UNSENT:
            self._unsent[key] = None
            self._has_some.set()

    async def send(self) -> None:
        """Wait until there are keys to send, and send them. Raises StorageError."""
        await self._has_some.wait()
        keys = list(self._unsent)[:_KEYS_AT_ONCE]
        for key in keys:
            del self._unsent[key]
        if not self._unsent:
            self._has_some.clear()
        said = select(func.pg_notify(_CHANNEL, f"{self._name} {' '.join(map(str, keys))}"))
        await self._database.read(lambda connection: connection.execute(said))

    async def listen(self, on_change: Callable[[int], None]) -> None:
        """Call `on_change` for each run that another process reports in the next seconds, on a connection that is kept.

        Raises StorageError when it is lost: the next call makes another.
        """
        # Imported here, because SQLite needs no PostgreSQL driver.
        from app.storage.engine.postgres import listening, readable  # noqa: PLC0415

        try:
            if self._connection is None:
                self._connection = await listening(self._url, _CHANNEL)
            await readable(self._connection, _LISTEN_SECONDS)
            async for notification in self._connection.notifies(timeout=0):
                name, *keys = notification.payload.split(" ")
                for key in keys if name != self._name else ():
                    on_change(int(key))
        except Exception as error:
            await self.aclose()
            raise StorageError("The database's notifications cannot be heard.") from error

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
