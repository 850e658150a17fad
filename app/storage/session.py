"""A thread's use of the database: its connection, its transactions. Must not know the tables."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

T = TypeVar("T")

# How often it is asked whether a transaction was committed.
_LOOK_SECONDS = 0.05


def _nothing() -> None:
    pass


class Driver(ABC):
    """What is different between the databases. Its connections are in autocommit: nothing begins by itself."""

    most_readers: int
    """How many connections are of use to read with."""

    bounds_each_statement: bool
    """Whether the time of a statement that writes is bounded without a transaction begun for it."""

    wait_seconds: float
    """How long a transaction that writes may wait to begin."""

    locks_rows: bool
    """Whether transactions that write go on side by side, and wait for each other's rows."""
    write_error: tuple[float, BaseException] | None = None
    """How the last write failed, and when (monotonic); None when it was committed."""

    erasure_is_due = False
    """Whether the log may hold what was deleted from the tables."""

    @abstractmethod
    def engine(self, *, writes: bool) -> Engine:
        """An engine whose connections are prepared for writing or for reading."""

    @abstractmethod
    def begin(self, connection: Any) -> Any:
        """Begin a transaction that writes, and bound its time; returns the name under which the database knows it."""

    @abstractmethod
    def is_committed(self, connection: Any, transaction: Any) -> bool | None:
        """Whether a transaction whose COMMIT failed was committed all the same; None while it has not ended."""

    @abstractmethod
    def is_waiting(self, error: Exception) -> bool:
        """Whether this came of a wait for another writer that goes on when it is tried again."""

    @abstractmethod
    def interrupt(self, connection: Any) -> None:
        """End the statement that another thread runs on this connection of the driver. May block for a second."""

    @abstractmethod
    def obstacle(self, connection: Connection) -> str | None:
        """Why no write would be committed now, as far as can be seen without one. `connection` is a reader's."""

    @abstractmethod
    def lengthen_log(self, connection: Any) -> None:
        """Have the log's file as long as it will be: a commit that makes it longer takes twice the time."""

    @abstractmethod
    def shorten_log(self, connection: Any, *, fully: bool = False) -> None:
        """Do a part of the log's upkeep now, or all that is left, that no commit has to wait for all of it."""

    @abstractmethod
    def erase_log(self, connection: Any) -> bool:
        """Leave nothing in a log that was deleted from the tables. False when a reader needs the log still."""

    @abstractmethod
    def is_changed_by_others(self, connection: Any) -> bool:
        """Whether another process has changed what this one's log is kept for, since this was last asked."""


class Session:
    """One connection, opened when it is first needed, and again after it was lost."""

    def __init__(self, driver: Driver, engine: Engine) -> None:
        self._driver = driver
        self._engine = engine
        self._connection: Connection | None = None
        self._interrupted = False
        self._has_written = False
        self.locks_rows = driver.locks_rows

    def read(self, work: Callable[[Connection], T]) -> T:
        """Return what this makes of the connection. It may be run again, and holds no transaction."""
        return self._once_more(lambda: self._run(work))

    def write(
        self,
        work: Callable[[Connection], T],
        begin_commit: Callable[[], None] = _nothing,
        *,
        is_one_statement: bool = False,
    ) -> T:
        """Run this in a transaction of its own, and return its result once that is committed.

        `begin_commit` is called in the last moment before; what it raises rolls back. The driver begins and commits,
        not SQLAlchemy: here the interpreter is waited for, so the less of it the better. One statement is a
        transaction by itself, where nothing else has to be begun for it; it may be run again.
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

    def rest(self) -> None:
        """Do what can be done once nobody waits for what was written. Best effort."""
        if self._has_written:
            self._has_written = False
            with suppress(Exception):
                self._driver.shorten_log(_driven(self._open()))

    def lengthen_log(self) -> None:
        """Empty the log, and have the commits that follow find their place in it. Best effort."""
        self.erase_log()
        with suppress(Exception):
            connection = self._open()
            try:
                self._driver.lengthen_log(_driven(connection))
            finally:
                _roll_back(connection)

    def erase_log(self, *, later: bool = False) -> None:
        """Have what was deleted forgotten by the database's log too; where that cannot be done now, it stays due.

        A purge has it done `later`, by the duty for it: many deletions are one erasure.
        """
        self._driver.erasure_is_due = True
        if later:
            return
        # Whatever happens here, the deletion before it is committed and must be reported so.
        with suppress(Exception):
            self._driver.erasure_is_due = not self._driver.erase_log(_driven(self._open()))

    def begin_erasure(self) -> None:
        """See whether the log has anything to forget, by a purge or by another process, and do most of the work."""
        with suppress(Exception):
            connection = _driven(self._open())
            self._driver.erasure_is_due |= self._driver.is_changed_by_others(connection)
            if self._driver.erasure_is_due:
                self._driver.shorten_log(connection, fully=True)

    def finish_erasure(self) -> None:
        """Have the log forget what was to be forgotten later."""
        if self._driver.erasure_is_due:
            self.erase_log()

    def interrupt(self) -> None:
        """End the statement that runs now. For another thread; the connection may be lost by it."""
        self._interrupted = True
        if self._connection is not None and not self._connection.invalidated:
            self._driver.interrupt(_driven(self._connection))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _once_more(self, attempt: Callable[[], T]) -> T:
        """Try again on a new connection when an idle one turns out to be lost: cheaper than to ask it first."""
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
        """Try this for as long as another writer may be waited for."""
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
        connection, transaction = self._wait(lambda: self._once_more(self._begin))
        try:
            result = work(connection)
            begin_commit()
        except BaseException:
            _roll_back(connection)
            raise
        try:
            _driven(connection).commit()
        except BaseException:
            _roll_back(connection)
            if not self._is_committed(transaction):
                raise
        # SQLAlchemy takes its own statements for a transaction, and has not seen the end of it.
        connection.rollback()
        return result

    def _begin(self) -> tuple[Connection, Any]:
        connection = self._open()
        try:
            return connection, self._driver.begin(_driven(connection))
        except BaseException:
            _roll_back(connection)
            raise

    def _is_committed(self, transaction: Any) -> bool:
        """Whether the transaction was committed though its COMMIT failed: asked for as long as a commit may take.

        Its connection may be lost, and the database away. What is not known by then counts as a failure.
        """
        until = time.monotonic() + self._driver.wait_seconds
        while not self._interrupted:
            with suppress(Exception):
                found = self._run(lambda connection: self._driver.is_committed(_driven(connection), transaction))
                if found is not None:
                    return found
            if time.monotonic() > until:
                break
            time.sleep(_LOOK_SECONDS)
        return False


def _driven(connection: Connection) -> Any:
    """The driver's connection below SQLAlchemy's."""
    return connection.connection.driver_connection


def _roll_back(connection: Connection) -> None:
    """End the transaction, or the connection that cannot even do that: it is lost, and the transaction with it."""
    try:
        if not connection.invalidated:
            _driven(connection).rollback()
    except Exception:  # noqa: BLE001 (the error that led here is the one to raise)
        connection.invalidate()
    connection.rollback()
