"""SQLite driver: prepare connections, begin and interrupt transactions, copy back and erase the write-ahead log."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from app.storage.engine.session import Driver
from app.storage.engine.statements import MOST_ROWS

# In memory also because a statement that may yet fail saves the pages that it changes, and these hold content.
_COMMON = ("temp_store=MEMORY", "synchronous=FULL", "foreign_keys=ON")
# Each commit of the writer empties a reader's cache: a large one would only waste memory.
_READER = ("wal_autocheckpoint=0", "query_only=ON", "cache_size=-500")
# No commit runs while the log's pages are copied into the file, so they are copied in steps, between two groups of
# writes: a whole log of this length would take some 40 ms. A commit copies it where no step did.
_LOG_PAGES = 4000
# A step after so many changed rows, which is 800 to 1,400 pages. In smaller ones the pages of the indexes, which nearly
# each commit changes, are copied too often.
_ROWS_OF_STEP = 800
_PAGE_BYTES = 4096
_WRITER = ("journal_mode=WAL", "secure_delete=ON", f"wal_autocheckpoint={_LOG_PAGES}")
# Before SQLite 3.51.3 two processes that copy the log back may lose what a third commits: only the server does it.
_GUEST_WRITER = ("secure_delete=ON", "wal_autocheckpoint=0")
# The room that commits need on the disk: for a long turn, and for the log's pages on their way into the file.
_ROOM_BYTES = 1024 * 1024
# Milliseconds for which a write waits for another process's at a time; in between it can be interrupted.
_WAIT = 100
# Milliseconds for which the writer waits for an outside reader of the log (a backup).
_CHECKPOINT_WAIT = 200

# Where a type has no adapter the driver looks for methods that these lack, each time that it binds one, which takes as
# long as the rest of the binding. These adapters return the value itself (`get` a None), and are made in C.
_none: Any = {}.get
sqlite3.register_adapter(bytes, bytes.__bytes__)
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(type(None), _none)


class Sqlite(Driver):
    """Use one file in WAL mode; `timeout` (seconds) bounds the wait for another process's lock.

    A guest never copies the log back into the file: a process may serve from it.
    """

    # One reads as fast while everything is cached; more than four slow each other down.
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
        # Room for the insertions of every size, and for the other statements.
        kept = {"cached_statements": 2 * MOST_ROWS}
        engine = create_engine(self._url, poolclass=NullPool, hide_parameters=True, connect_args=kept)
        own = (_GUEST_WRITER if self._is_guest else _WRITER) if writes else _READER
        patience = self._writer_patience if writes else self._patience
        event.listen(engine, "connect", _Preparation((patience, *_COMMON, *own)))
        return engine

    def begin(self, connection: sqlite3.Connection) -> None:
        # A deferred BEGIN fails at once at its first write when another writer came between; IMMEDIATE waits. As a
        # script, because that releases the interpreter's lock once, and `execute` five times.
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
            # Write a file instead of asking for free space: only a write shows a quota or a limit of the process.
            with TemporaryFile(dir=folder, buffering=0) as file:
                written = file.write(bytes(_ROOM_BYTES))
        except OSError as error:
            return f"The data folder cannot be written to ({error.strerror})."
        return None if written == _ROOM_BYTES else "The data folder's disk is full."

    def lengthen_log(self, connection: sqlite3.Connection) -> None:
        # More than the cache takes, so that the pages go into the log; the table itself is rolled back.
        self.begin(connection)
        connection.execute("CREATE TABLE padding (zeros BLOB)")
        connection.execute("INSERT INTO padding VALUES (zeroblob(?))", (_LOG_PAGES * _PAGE_BYTES,))
        connection.rollback()

    def shorten_log(self, connection: sqlite3.Connection, *, fully: bool = False) -> None:
        # Only on the connection that writes: up to version 3.51.2 two that write or checkpoint at one time can lose
        # pages. PASSIVE waits for no reader.
        least = 0 if fully else _ROWS_OF_STEP
        if not self._is_guest and abs(connection.total_changes - self._rows_copied) >= least:
            self._rows_copied = connection.total_changes
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def erase_log(self, connection: sqlite3.Connection) -> bool:
        if self._is_guest:
            # The serving process does that.
            return True
        connection.execute(f"PRAGMA busy_timeout={_CHECKPOINT_WAIT}").fetchall()
        try:
            ((is_busy, *_),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.execute(f"PRAGMA {self._writer_patience}").fetchall()
        return not is_busy

    def is_changed_by_others(self, connection: sqlite3.Connection) -> bool:
        # `data_version` counts the commits of all other connections, and those of this process only read.
        ((version,),) = connection.execute("PRAGMA data_version").fetchall()
        is_changed, self._version = version != self._version, version
        return is_changed and not self._is_guest


class _Preparation:
    """Set the pragmas of each new connection, and turn off the driver's implicit transactions."""

    def __init__(self, pragmas: Sequence[str]) -> None:
        self._pragmas = pragmas

    def __call__(self, connection: Any, record: object) -> None:  # noqa: ARG002 (SQLAlchemy's signature)
        connection.isolation_level = None
        for pragma in self._pragmas:
            connection.execute(f"PRAGMA {pragma}").fetchall()
