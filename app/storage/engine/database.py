"""Run statements in the database's threads, within a time limit; turn the database's failures into StorageError."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.errors import StorageError
from app.runtime import storage_time
from app.runtime.byte_budget import Reserve
from app.runtime.deadline import Deadline
from app.storage.engine.clock import DatabaseClock, DatabaseMilliseconds
from app.storage.engine.location import DatabaseLocation
from app.storage.engine.session import Driver, Session
from app.storage.engine.sqlite import Sqlite
from app.storage.engine.threads import DatabaseThreads

T = TypeVar("T")

# Seconds for an interrupted statement to end.
_GRACE = 2.0
# Seconds for which a failed write makes `check_writable` fail; then another write has to be tried.
_FAILED_SECONDS = 5.0

# Primary SQLite codes (ERROR, TOOBIG, CONSTRAINT, MISMATCH, MISUSE, RANGE) and SQLSTATE classes (data, integrity,
# rollback, syntax, check option, program limit) that blame one statement; all others blame the database.
_STATEMENT_FAULTS = frozenset({1, 18, 19, 20, 21, 25, "22", "23", "40", "42", "44", "54"})

# Another transaction has locked the row, or is ahead of ours (lock_not_available, deadlock, serialization).
_CONTENDED = frozenset({"55P03", "40P01", "40001"})

READ_AT_ONCE_BYTES = 256 * 1024
"""The bytes that are read before they are reserved; they are reserved afterwards all the same."""

_NOW = select(DatabaseMilliseconds())
_UNREACHABLE = frozenset({"OperationalError", "InterfaceError"})


def is_outage(error: BaseException) -> bool:
    """Return whether the database as a whole is at fault (down, locked, full, read-only), and not one statement.

    `error` is SQLAlchemy's or the driver's.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    code: int | str | None
    if isinstance(cause, sqlite3.Error):
        extended = getattr(cause, "sqlite_errorcode", None)
        code = None if extended is None else extended & 0xFF
    else:
        sqlstate = getattr(cause, "sqlstate", None)
        code = None if sqlstate is None else sqlstate[:2]
    if code is None:
        # By PEP 249's names, so that the driver of an unused database need not be installed.
        kinds = (*type(error).__mro__, *type(cause).__mro__)
        return isinstance(cause, OSError) or not _UNREACHABLE.isdisjoint(kind.__name__ for kind in kinds)
    return code not in _STATEMENT_FAULTS


def is_contended(error: BaseException) -> bool:
    """Return whether the statement failed only because another transaction has locked its rows: it can be retried."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None) in _CONTENDED


def is_conflict(error: BaseException) -> bool:
    """Return whether a row was refused because another has the same unique values. `error` is the driver's."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_UNIQUE
    return getattr(error, "sqlstate", None) == "23505"


def _measured(work: Callable[[Connection, int], tuple[int, T]], most: int, connection: Connection) -> tuple[int, T]:
    return work(connection, most)


def _is_of_database(error: Exception) -> bool:
    """Return whether the error comes from the database, its driver or the network, and not from the work itself."""
    return isinstance(error, SQLAlchemyError | sqlite3.Error | OSError) or hasattr(error, "sqlstate")


class Database:
    """Run reads and writes of one database in threads: one thread writes, on PostgreSQL two.

    `pool_size` bounds the readers; `commit_timeout` (seconds) bounds a read, SQLite's wait for a lock and, on
    PostgreSQL, each statement of a write. Only the Writer may write. A guest is beside a process that serves.
    """

    def __init__(self, url: str, pool_size: int, commit_timeout: float, *, is_guest: bool = False) -> None:
        location = DatabaseLocation.parse(url)
        location.prepare()
        self._timeout = commit_timeout
        self._deadline = Deadline(commit_timeout)
        self._driver = driver = _driver(location, commit_timeout, is_guest=is_guest)
        self.reader = driver.engine(writes=False)
        self.writer = driver.engine(writes=True)
        self._readers = DatabaseThreads(
            partial(Session, driver, self.reader), min(pool_size, driver.most_readers), "storage-reader"
        )
        self._writer = DatabaseThreads(partial(Session, driver, self.writer), 1, "storage-writer")
        self._waiting_writer = DatabaseThreads(partial(Session, driver, self.writer), 1, "storage-waiting-writer")
        self.locks_rows = driver.locks_rows
        self.clock = DatabaseClock()

    async def read(self, work: Callable[[Connection], T], seconds: float | None = None) -> T:
        """Run `work` on a connection of a reading thread, perhaps twice, and return its result.

        The time limit is `seconds`, or what its call has left. Every failure of the database is a StorageError.
        """
        ours = storage_time.time_of_call()
        began = time.monotonic()
        left = seconds or (self._timeout if ours is None else ours.left(self._timeout))
        deadline = self._deadline if left == self._timeout else Deadline(left)
        try:
            return await self._readers.run(lambda session: session.read(work), deadline)
        except Exception as error:
            if not _is_of_database(error):
                raise
            raise StorageError("The database could not answer. Try again in a moment.") from error
        finally:
            if ours is not None:
                ours.spend(self._timeout, began)

    async def read_within(self, work: Callable[[Connection, int], tuple[int, T]], reserve: Reserve) -> T:
        """Run `work` on a connection and return its result once its bytes are reserved. Raises also as `reserve` does.

        `work` is given the bytes that it may read, and returns the bytes of its whole result; a larger result is left
        out.
        """
        most, reserved = READ_AT_ONCE_BYTES, 0
        while True:
            size, found = await self.read(partial(_measured, work, most))
            if size > reserved:
                await reserve(size - reserved)
                reserved = size
            if size <= most:
                return found
            # It may have grown since it was measured.
            most = size

    def write(self, work: Callable[[Session], T], *, may_wait: bool = False) -> asyncio.Future[T]:
        """Run `work` in the writing thread, after all work before it. Errors are SQLAlchemy's or the driver's.

        With `may_wait` (for rows that others have locked) it runs in the second writer; only where `locks_rows`.
        """
        return (self._waiting_writer if may_wait else self._writer).submit(work)

    async def lengthen_log(self) -> None:
        """Empty the log of an earlier process and grow its file, so that the first commits need not. Best effort."""
        await self.write(lambda session: session.lengthen_log())

    async def finish_erasure(self) -> None:
        """Empty SQLite's log of content that was deleted while a reader used the log, or by a guest.

        Raises StorageError while a reader still uses it.
        """
        # In two jobs of the writing thread: a commit between them waits for only one.
        await self.write(lambda session: session.begin_erasure())
        await self.write(lambda session: session.finish_erasure())
        if self._driver.erasure_is_due:
            raise StorageError("A reader from outside keeps what was deleted in SQLite's log.")

    async def tell_time(self) -> int:
        """Return the database's time in unix seconds, and correct `clock` by it."""
        before = time.time()
        milliseconds: int = await self.read(lambda connection: connection.execute(_NOW).scalar_one())
        self.clock.ahead = (before + time.time()) / 2 - milliseconds / 1000
        return milliseconds // 1000

    async def check_clock(self) -> None:
        """Raise StorageError while this process's clock and the database's are minutes apart."""
        await self.tell_time()
        if self.clock.is_off:
            way = "ahead of" if self.clock.ahead > 0 else "behind"
            raise StorageError(
                f"This machine's clock is {abs(self.clock.ahead):.0f} s {way} the database's. "
                "This process removes nothing that has expired until they agree."
            )

    def interrupt_write(self) -> None:
        """Interrupt the statements of the writing threads; their transactions fail."""
        self._writer.interrupt()
        self._waiting_writer.interrupt()

    async def ping(self) -> None:
        """Raise StorageError unless the database answers."""
        await self.read(lambda connection: connection.execute(text("SELECT 1")))

    async def check_writable(self) -> None:
        """Raise StorageError if nothing can be committed now: full, read-only, or the last write failed."""
        obstacle = await self.read(self._driver.obstacle)
        if obstacle is not None:
            raise StorageError(obstacle)
        failed = self._driver.write_error
        if failed is not None and time.monotonic() < failed[0] + _FAILED_SECONDS and is_outage(failed[1]):
            raise StorageError("The database could not keep what was last written.")

    async def aclose(self) -> None:
        """Close every connection; the writer's last, so that SQLite's final checkpoint is the writer's too."""
        await self._readers.aclose(self._timeout + _GRACE)
        await self._waiting_writer.aclose(self._timeout + _GRACE)
        await self._writer.aclose(self._timeout + _GRACE)


def _driver(location: DatabaseLocation, timeout: float, *, is_guest: bool) -> Driver:
    if location.file is not None:
        return Sqlite(location.url, timeout, is_guest=is_guest)
    # Here, because its driver's 77 modules are a tenth of a start, and SQLite does without them.
    from app.storage.engine.postgres import Postgres  # noqa: PLC0415

    return Postgres(location.url, timeout)
