"""A thread's use of the database: its connection, its transactions. Must not know the tables."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, RootTransaction
from sqlalchemy.exc import DBAPIError

T = TypeVar("T")


class Driver(ABC):
    """What is different between the databases. Its connections are in autocommit: nothing begins by itself."""

    begin: str
    """What begins a transaction that writes, and bounds its time."""

    most_readers: int
    """How many connections are of use to read with."""

    @abstractmethod
    def engine(self, *, writes: bool) -> Engine:
        """An engine whose connections are prepared for writing or for reading."""

    @abstractmethod
    def interrupt(self, connection: Any) -> None:
        """End the statement that another thread runs on this connection of the driver. May block for a second."""

    @abstractmethod
    def erase_log(self, connection: Any) -> None:
        """Leave nothing in a log that was deleted from the tables."""


class Session:
    """One connection, opened when it is first needed, and again after it was lost."""

    def __init__(self, driver: Driver, engine: Engine) -> None:
        self._driver = driver
        self._engine = engine
        self._connection: Connection | None = None
        self._interrupted = False

    def read(self, work: Callable[[Connection], T]) -> T:
        """Return what this makes of the connection. It may be run again, and holds no transaction."""
        return self._once_more(lambda: self._read(work))

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run this in a transaction of its own, and return its result once that is committed."""
        transaction = self._once_more(self._begin)
        with transaction:
            return work(transaction.connection)

    def erase_log(self) -> None:
        """Have what was deleted forgotten by the database's log too. Best effort."""
        # Whatever happens here, the deletion before it is committed and must be reported so.
        with suppress(Exception):
            self._driver.erase_log(self._open().connection.driver_connection)

    def interrupt(self) -> None:
        """End the statement that runs now. For another thread; the connection may be lost by it."""
        self._interrupted = True
        if self._connection is not None and not self._connection.invalidated:
            self._driver.interrupt(self._connection.connection.driver_connection)

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
        was_open = self._connection is not None and not self._connection.invalidated
        try:
            return attempt()
        except DBAPIError as error:
            if not was_open or not error.connection_invalidated or self._interrupted:
                raise
        return attempt()

    def _read(self, work: Callable[[Connection], T]) -> T:
        connection = self._open()
        try:
            return work(connection)
        finally:
            connection.rollback()

    def _begin(self) -> RootTransaction:
        connection = self._open()
        transaction = connection.begin()
        try:
            connection.exec_driver_sql(self._driver.begin)
        except BaseException:
            transaction.rollback()
            raise
        return transaction
