"""SQLite: how its connections are prepared, begin a transaction and are interrupted."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from app.storage.session import Driver
from app.storage.statements import MOST_ROWS

# In memory also because a statement that may yet fail keeps the pages that it changes, and they hold content.
_COMMON = ("temp_store=MEMORY", "synchronous=FULL", "foreign_keys=ON")
# Each commit of the writer empties a reader's cache: a large one would only weigh.
_READER = ("wal_autocheckpoint=0", "query_only=ON", "cache_size=-500")
# No commit goes on while the log's pages are copied into the file. That is done in steps, between two groups of writes:
# all of a log of this length at once would hold up everybody for some 40 ms. A commit does it where no step came to it.
_LOG_PAGES = 4000
# A step after so many changed rows, which is 400 to 700 pages. In smaller ones the pages of the indexes, which nearly
# each commit changes, are copied too often.
_ROWS_OF_STEP = 400
_PAGE_BYTES = 4096
_WRITER = ("journal_mode=WAL", "secure_delete=ON", f"wal_autocheckpoint={_LOG_PAGES}")
# Before SQLite 3.51.3 two processes that copy the log back may lose what a third commits: the one that serves does it.
_GUEST_WRITER = ("secure_delete=ON", "wal_autocheckpoint=0")
# What the disk must have room for, that commits go on: a long turn, and the log's pages on their way into the file.
_ROOM_BYTES = 1024 * 1024
# For how long a write waits for another process's in one go: then it is seen whether it is still wanted.
_WAIT = 100
# A reader from outside (a backup) may hold the log; the writer does not wait long for it.
_CHECKPOINT_WAIT = 200


class Sqlite(Driver):
    """One file in WAL mode; `timeout` (seconds) bounds the wait for another process's lock.

    A guest never copies the log back into the file: a process may serve from it.
    """

    # One could read as fast, as long as nothing has to come from the disk. More get into each other's way.
    most_readers = 4
    bounds_each_statement = True
    locks_rows = False

    def __init__(self, url: URL, timeout: float, *, is_guest: bool = False) -> None:
        self._url = url
        self._is_guest = is_guest
        self._rows_copied = 0
        self._version = 0
        self.wait_seconds = timeout
        milliseconds = int(timeout * 1000)
        self._patience = f"busy_timeout={milliseconds}"
        self._writer_patience = f"busy_timeout={min(_WAIT, milliseconds)}"

    def engine(self, *, writes: bool) -> Engine:
        # Room for the insertions of every size, and for what else there is.
        kept = {"cached_statements": 2 * MOST_ROWS}
        engine = create_engine(self._url, poolclass=NullPool, hide_parameters=True, connect_args=kept)
        own = (_GUEST_WRITER if self._is_guest else _WRITER) if writes else _READER
        patience = self._writer_patience if writes else self._patience
        event.listen(engine, "connect", _Preparation((patience, *_COMMON, *own)))
        return engine

    def begin(self, connection: sqlite3.Connection) -> None:
        # A deferred BEGIN that turns into a write fails at once when another writer came between; this one waits. As a
        # script, because that gives up the interpreter's lock once, and `execute` five times.
        connection.executescript("BEGIN IMMEDIATE")

    def is_committed(self, connection: sqlite3.Connection, transaction: None) -> bool:  # noqa: ARG002 (it knows at once)
        return False

    def is_waiting(self, error: Exception) -> bool:
        cause = error.orig if isinstance(error, DBAPIError) else error
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY

    def interrupt(self, connection: sqlite3.Connection) -> None:
        connection.interrupt()

    def obstacle(self, connection: Connection) -> str | None:  # noqa: ARG002 (the disk is asked)
        folder = Path(self._url.database or "").parent
        try:
            # Not what the file system says is free: a quota, or a limit of the process, tells only who writes.
            with TemporaryFile(dir=folder, buffering=0) as file:
                written = file.write(bytes(_ROOM_BYTES))
        except OSError as error:
            return f"The data folder cannot be written to ({error.strerror})."
        return None if written == _ROOM_BYTES else "The data folder's disk is full."

    def lengthen_log(self, connection: sqlite3.Connection) -> None:
        # More than the cache takes, so that its pages go into the log, of a table that is never made.
        self.begin(connection)
        connection.execute("CREATE TABLE padding (zeros BLOB)")
        connection.execute("INSERT INTO padding VALUES (zeroblob(?))", (_LOG_PAGES * _PAGE_BYTES,))
        connection.rollback()

    def shorten_log(self, connection: sqlite3.Connection, *, fully: bool = False) -> None:
        # By the connection that writes, and by no other: up to version 3.51.2 two that do either at one time can lose
        # pages. PASSIVE waits for no reader.
        least = 0 if fully else _ROWS_OF_STEP
        if not self._is_guest and abs(connection.total_changes - self._rows_copied) >= least:
            self._rows_copied = connection.total_changes
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def erase_log(self, connection: sqlite3.Connection) -> bool:
        if self._is_guest:
            # The process that serves does that.
            return True
        connection.execute(f"PRAGMA busy_timeout={_CHECKPOINT_WAIT}").fetchall()
        try:
            ((is_busy, *_),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.execute(f"PRAGMA {self._writer_patience}").fetchall()
        return not is_busy

    def is_changed_by_others(self, connection: sqlite3.Connection) -> bool:
        # It counts the commits of every other connection, and all others of this process only read.
        ((version,),) = connection.execute("PRAGMA data_version").fetchall()
        is_changed, self._version = version != self._version, version
        return is_changed and not self._is_guest


class _Preparation:
    """Prepares each new connection. Transactions are begun by us, not guessed by the driver."""

    def __init__(self, pragmas: Sequence[str]) -> None:
        self._pragmas = pragmas

    def __call__(self, connection: Any, record: object) -> None:  # noqa: ARG002 (SQLAlchemy's signature)
        connection.isolation_level = None
        for pragma in self._pragmas:
            connection.execute(f"PRAGMA {pragma}").fetchall()
