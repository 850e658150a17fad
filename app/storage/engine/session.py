"""Run reads and write transactions on one thread's connection, and reopen it when it was lost."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

T = TypeVar("T")

# How often to ask whether a transaction was committed.
_LOOK_SECONDS = 0.05


def _nothing() -> None:
    pass


class Driver(ABC):
    """Adapt sessions to SQLite or PostgreSQL. Connections are in autocommit: no transaction begins by itself."""

    most_readers: int
    """How many connections are of use to read with."""

    bounds_each_statement: bool
    """Whether the time of a statement that writes is bounded without a transaction begun for it."""

    wait_seconds: float
    """How long a transaction that writes may wait to begin."""

    locks_rows: bool
    """Whether write transactions run side by side and wait for each other's rows."""
    write_error: tuple[float, BaseException] | None = None
    """How the last write failed, and when (monotonic); None when it was committed."""

    erasure_is_due = False
    """Whether the log may hold what was deleted from the tables."""

    @abstractmethod
    def engine(self, *, writes: bool) -> Engine:
        """Make an engine whose connections are prepared for writing or for reading."""

    @abstractmethod
    def begin(self, connection: Any) -> Any:
        """Begin a write transaction within its time limit; return its id in the database."""

    @abstractmethod
    def is_committed(self, connection: Any, transaction: Any) -> bool | None:
        """Return whether a transaction was committed though its COMMIT failed; None while it has not ended."""

    @abstractmethod
    def is_waiting(self, error: Exception) -> bool:
        """Return whether the error is a timeout of waiting for another writer, so that a retry goes on waiting."""

    @abstractmethod
    def interrupt(self, connection: Any) -> None:
        """Interrupt the statement that another thread runs on this connection of the driver. May block for a second."""

    @abstractmethod
    def obstacle(self, connection: Connection) -> str | None:
        """Return why no write could be committed now, as far as a reader's `connection` can tell; else None."""

    @abstractmethod
    def lengthen_log(self, connection: Any) -> None:
        """Grow the log's file to its full length: a commit that has to grow it takes twice the time."""

    @abstractmethod
    def shorten_log(self, connection: Any, *, fully: bool = False) -> None:
        """Copy a part of the log back into the file, or all that is left, so that no commit has to copy all of it."""

    @abstractmethod
    def erase_log(self, connection: Any) -> bool:
        """Remove from the log what was deleted from the tables. False while a reader still uses the log."""

    @abstractmethod
    def is_changed_by_others(self, connection: Any) -> bool:
        """Return whether another process has changed the database since the last call: the log may need erasure."""


class Session:
    """Open one connection when it is first needed, and again after it was lost; run reads and writes on it."""

    def __init__(self, driver: Driver, engine: Engine) -> None:
        self._driver = driver
        self._engine = engine
        self._connection: Connection | None = None
        self._interrupted = False
        self._has_written = False
        self.locks_rows = driver.locks_rows

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the connection and return its result. It may run twice, and holds no transaction."""
        return self._retry_if_lost(lambda: self._run(work))

    def write(
        self,
        work: Callable[[Connection], T],
        begin_commit: Callable[[], None] = _nothing,
        *,
        is_one_statement: bool = False,
    ) -> T:
        """Run `work` in a transaction of its own, and return its result once that is committed.

        `begin_commit` is called just before COMMIT; an error of it rolls back. The driver begins and commits, not
        SQLAlchemy: threads wait for the interpreter, so this one uses it as little as possible. One statement is a
        transaction by itself, where nothing else has to be begun for it; it may run twice.
        """
        try:
            if is_one_statement and self._driver.bounds_each_statement:
                result = self._wait(lambda: self._run(work, begin_commit))
            else:
                result = self._transact(work, begin_commit)
        except BaseException as error:
            self._driver.write_error = (time.monotonic(), error)
            raise
        self._driver.write_error = None
        self._has_written = True
        return result

    def maintain_log(self) -> None:
        """Do the log's upkeep once no caller waits for a write. Best effort."""
        if self._has_written:
            self._has_written = False
            with suppress(Exception):
                self._driver.shorten_log(_driver_connection(self._open()))

    def lengthen_log(self) -> None:
        """Empty the log, then grow its file for the commits that follow. Best effort."""
        self.erase_log()
        with suppress(Exception):
            connection = self._open()
            try:
                self._driver.lengthen_log(_driver_connection(connection))
            finally:
                _roll_back(connection)

    def erase_log(self, *, later: bool = False) -> None:
        """Erase deleted content from the database's log, too; where that cannot be done now, it stays due.

        A purge has it done `later`, by the periodic task for it: many deletions are one erasure.
        """
        self._driver.erasure_is_due = True
        if later:
            return
        # Suppress every error: the deletion itself is committed, and must be reported so.
        with suppress(Exception):
            self._driver.erasure_is_due = not self._driver.erase_log(_driver_connection(self._open()))

    def begin_erasure(self) -> None:
        """Check whether a purge or another process made an erasure due, and do most of its work."""
        with suppress(Exception):
            connection = _driver_connection(self._open())
            self._driver.erasure_is_due |= self._driver.is_changed_by_others(connection)
            if self._driver.erasure_is_due:
                self._driver.shorten_log(connection, fully=True)

    def finish_erasure(self) -> None:
        """Erase the log if that is due."""
        if self._driver.erasure_is_due:
            self.erase_log()

    def interrupt(self) -> None:
        """Interrupt the running statement. For another thread; may lose the connection."""
        self._interrupted = True
        if self._connection is not None and not self._connection.invalidated:
            self._driver.interrupt(_driver_connection(self._connection))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _retry_if_lost(self, attempt: Callable[[], T]) -> T:
        """Retry on a new connection when an idle one turns out to be lost: cheaper than to test it first."""
        self._interrupted = False
        idle = self._connection
        if idle is not None and idle.invalidated:
            idle = None
        try:
            return attempt()
        except Exception:
            if idle is None or not idle.invalidated or self._interrupted:
                raise
        return attempt()

    def _wait(self, attempt: Callable[[], T]) -> T:
        """Retry for as long as a transaction may wait for another writer."""
        until = math.inf
        while True:
            try:
                return attempt()
            except Exception as error:
                if self._interrupted or not self._driver.is_waiting(error) or time.monotonic() > until:
                    raise
                if until == math.inf:
                    until = time.monotonic() + self._driver.wait_seconds

    def _run(self, work: Callable[[Connection], T], before: Callable[[], None] = _nothing) -> T:
        connection = self._open()
        try:
            before()
            result = work(connection)
        except BaseException:
            _roll_back(connection)
            raise
        connection.rollback()
        return result

    def _transact(self, work: Callable[[Connection], T], begin_commit: Callable[[], None]) -> T:
        connection, transaction = self._wait(lambda: self._retry_if_lost(self._begin))
        try:
            result = work(connection)
            begin_commit()
        except BaseException:
            _roll_back(connection)
            raise
        try:
            _driver_connection(connection).commit()
        except BaseException:
            _roll_back(connection)
            if not self._is_committed(transaction):
                raise
        # SQLAlchemy takes its own statements for a transaction, and has not seen its end.
        connection.rollback()
        return result

    def _begin(self) -> tuple[Connection, Any]:
        connection = self._open()
        try:
            return connection, self._driver.begin(_driver_connection(connection))
        except BaseException:
            _roll_back(connection)
            raise

    def _is_committed(self, transaction: Any) -> bool:
        """Return whether the transaction was committed though its COMMIT failed; ask for as long as a commit may take.

        The connection may be lost, and the database away. What is unknown by then counts as a failure.
        """
        until = time.monotonic() + self._driver.wait_seconds
        while not self._interrupted:
            with suppress(Exception):
                found = self._run(
                    lambda connection: self._driver.is_committed(_driver_connection(connection), transaction)
                )
                if found is not None:
                    return found
            if time.monotonic() > until:
                break
            time.sleep(_LOOK_SECONDS)
        return False


def _driver_connection(connection: Connection) -> Any:
    """Return the driver's connection below SQLAlchemy's."""
    return connection.connection.driver_connection


def _roll_back(connection: Connection) -> None:
    """Roll back the transaction; invalidate the connection if it cannot even do that."""
    try:
        if not connection.invalidated:
            _driver_connection(connection).rollback()
    except Exception:  # noqa: BLE001 (the error that led here is the one to raise)
        connection.invalidate()
    connection.rollback()
