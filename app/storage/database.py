"""The connections: many readers, one writing connection, and what their failures mean. Must not know the tables."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.errors import StorageError
from app.storage.location import Location

# Seconds a caller waits for a free connection before it is told 503.
_POOL_TIMEOUT = 2.0
# Seconds a driver gets to cancel a statement that is late, before its connection is dropped.
_CANCEL_GRACE = 1.0

_PRAGMAS = "PRAGMA busy_timeout={}; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; "
_READER_PRAGMAS = _PRAGMAS + "PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=0; PRAGMA query_only=ON"
_WRITER_PRAGMAS = _PRAGMAS + "PRAGMA journal_mode=WAL; PRAGMA secure_delete=ON"
# A reader from outside (a backup) may hold the log; the writer does not wait long for it.
_CHECKPOINT = "PRAGMA busy_timeout=200; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA busy_timeout={}"

# Primary SQLite codes (ERROR, TOOBIG, CONSTRAINT, MISMATCH, MISUSE, RANGE) and SQLSTATE classes (data, integrity,
# rollback, syntax, check option, program limit) that blame one statement; all others blame the database.
_STATEMENT_FAULTS = frozenset({1, 18, 19, 20, 21, 25, "22", "23", "40", "42", "44", "54"})


def is_outage(error: BaseException) -> bool:
    """Whether the database as a whole is at fault (down, locked, full, read-only), and not one statement."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, PoolTimeoutError | TimeoutError | OSError)
    code: int | str | None
    if isinstance(error.orig, sqlite3.Error):
        extended = getattr(error.orig, "sqlite_errorcode", None)
        code = None if extended is None else extended & 0xFF
    else:
        sqlstate = getattr(error.orig, "sqlstate", None)
        code = None if sqlstate is None else sqlstate[:2]
    if code is None:
        return isinstance(error, OperationalError | InterfaceError)
    return code not in _STATEMENT_FAULTS


class Database:
    """The engines over one location.

    `pool_size` bounds the readers; `commit_timeout` (seconds) bounds a read, SQLite's wait for a lock and, on
    PostgreSQL, each statement of a write. Readers are in autocommit: no read holds a transaction. Only the Writer may
    use `writer`.
    """

    def __init__(self, url: str, pool_size: int, commit_timeout: float) -> None:
        self._location = Location.parse(url)
        self._location.prepare()
        self._timeout = commit_timeout
        self._milliseconds = int(commit_timeout * 1000)
        # psycopg answers a cancellation with up to 10 s of polite cancelling; a second one drops the connection.
        # aiosqlite must be left to end on its own: disturbed, its thread and its closing task wait for each other.
        self._cancel_grace = _CANCEL_GRACE if self._location.file is None else None
        self.reader = self._engine(pool_size, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True)
        self.writer = self._engine(1)
        if self._location.file is not None:
            event.listen(self.reader.sync_engine, "connect", _SqliteConnect(_READER_PRAGMAS.format(self._milliseconds)))
            event.listen(self.writer.sync_engine, "connect", _SqliteConnect(_WRITER_PRAGMAS.format(self._milliseconds)))
            event.listen(self.writer.sync_engine, "begin", _begin_immediate)
        else:
            event.listen(self.writer.sync_engine, "begin", self._limit_transaction)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for a few statements. Whatever goes wrong with the database inside is a StorageError."""
        grace = self._cancel_grace
        try:
            async with (
                asyncio.timeout(None if grace is None else self._timeout + grace),
                asyncio.timeout(self._timeout),
                self.reader.connect() as connection,
            ):
                yield connection
        except (SQLAlchemyError, TimeoutError, OSError) as error:
            raise StorageError("The database could not answer. Try again in a moment.") from error

    async def ping(self) -> None:
        """Raise StorageError unless the database answers."""
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))

    async def interrupt(self, task: asyncio.Task[None]) -> None:
        """Cancel a task that uses a connection, and wait for its end."""
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=self._cancel_grace)
        if not done:
            task.cancel()
            await asyncio.wait((task,))

    async def erase_log(self) -> None:
        """Empty SQLite's log into the file, so that what was deleted is in neither. Best effort, for the Writer."""
        if self._location.file is None:
            return
        # Whatever happens here, the deletion before it is committed and must be reported so.
        with suppress(Exception):
            async with self.writer.connect() as connection:
                raw = await connection.get_raw_connection()
                driver: Any = raw.driver_connection
                await driver.executescript(_CHECKPOINT.format(self._milliseconds))

    async def aclose(self) -> None:
        """Close every connection; the writer's last, so that SQLite's final checkpoint is the writer's too."""
        await self.reader.dispose()
        await self.writer.dispose()

    def _engine(self, pool_size: int, **options: Any) -> AsyncEngine:
        if self._location.file is None:
            options["pool_pre_ping"] = True
            options["connect_args"] = {
                # Behind pgbouncer the next statement may meet another server, which never saw the preparation.
                "prepare_threshold": None,
                "connect_timeout": 5,
                # A peer that vanished is noticed by the socket: a write is never cancelled from this side.
                "tcp_user_timeout": self._milliseconds,
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
            }
        return create_async_engine(
            self._location.async_url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=_POOL_TIMEOUT,
            hide_parameters=True,
            **options,
        )

    def _limit_transaction(self, connection: Connection) -> None:
        # Set in the transaction and gone with it: pgbouncer refuses start-up options it does not know.
        connection.execute(
            text(
                "SELECT set_config('statement_timeout', :limit, true),"
                " set_config('idle_in_transaction_session_timeout', :limit, true)"
            ),
            {"limit": f"{self._milliseconds}ms"},
        )


class _SqliteConnect:
    """Prepares each new SQLite connection. Transactions are begun here, not guessed by the driver."""

    def __init__(self, pragmas: str) -> None:
        self._pragmas = pragmas

    def __call__(self, connection: Any, record: object) -> None:  # noqa: ARG002 (SQLAlchemy's signature)
        connection.isolation_level = None
        connection.run_async(lambda driver: driver.executescript(self._pragmas))


def _begin_immediate(connection: Connection) -> None:
    # A deferred BEGIN that turns into a write fails at once when another writer came between; this one waits.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
