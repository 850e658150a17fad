"""Run the hot statements as text for the driver: SQLAlchemy's work on each execution would cost more than theirs."""

import sqlite3
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Dialect, Select, literal_column

# One statement for each number of rows up to here; SQLite's driver keeps them prepared. Twice as many would take 40 MB.
MOST_ROWS = 64
FEW_SIZES = (1, 8, MOST_ROWS)
"""Row counts of statements for bulk inserts: few stay prepared, as splitting a bulk into some more costs little."""


def unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Hide the column from all indexes: for a condition that only filters rows.

    PostgreSQL chooses by its statistics among the indexes that conditions could use. Here it has no choice.
    """
    return column + literal_column("0" if isinstance(column.type, BigInteger) else "''", column.type)


class Query:
    """Compile a SELECT of SQLAlchemy's once for each kind of database. Parameters are passed unconverted."""

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, Sequence[str] | None]] = {}

    def fetch(self, connection: Connection, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Fetch all rows for these named parameters. Errors are the driver's own."""
        text, order = self._compiled.get(connection.dialect.name) or self._compile(connection.dialect)
        given = parameters if order is None else tuple([parameters[name] for name in order])
        driver: Any = connection.connection.driver_connection
        rows: list[tuple[Any, ...]] = driver.execute(text, given).fetchall()
        return rows

    def _compile(self, dialect: Dialect) -> tuple[str, Sequence[str] | None]:
        compiled: Any = self._statement.compile(dialect=dialect)
        return self._compiled.setdefault(dialect.name, (str(compiled), compiled.positiontup))


class Insertion:
    """Insert up to MOST_ROWS rows by one statement: the round trip to the server, or to SQLite's lock, costs most.

    `sizes` are the numbers of rows that a statement may have, from 1 up, and `end` is the SQL after its rows. The
    driver runs it and raises its own errors: this thread shares the interpreter, so it uses little of it.
    """

    def __init__(
        self, table: str, columns: Sequence[str], sizes: Sequence[int] = range(1, MOST_ROWS + 1), end: str = ""
    ) -> None:
        self._sizes = sizes
        self._end = end
        # A row whose last value cannot be bound.
        self._unbound = (*[None] * (len(columns) - 1), object())
        self._head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608 (names of our own)
        self._width = len(columns)
        # By the number of rows, for SQLite and for PostgreSQL.
        self._texts: dict[int, str] = {}
        self._numbered: dict[int, bytes] = {}

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert the rows; more than MOST_ROWS need a transaction around them."""
        driver: Any = connection.connection.driver_connection
        is_sqlite = connection.dialect.name == "sqlite"
        start = 0
        while left := len(rows) - start:
            size = self._sizes[bisect_right(self._sizes, left) - 1]
            values = tuple(chain.from_iterable(rows[start : start + size]))
            if is_sqlite:
                driver.execute(self._texts.get(size) or self._text(size), values)
            else:
                _raw_cursor(driver).execute(self._numbered.get(size) or self._number(size), values)
            start += size

    def unbind(self, connection: Connection) -> None:
        """Free the row that was inserted last, which SQLite's statement keeps until it is bound to another."""
        if connection.dialect.name == "sqlite":
            driver: Any = connection.connection.driver_connection
            # The driver binds all but the last value, refuses that, and does not run the statement.
            with suppress(sqlite3.Error):
                driver.execute(self._text(1), self._unbound)

    def _text(self, size: int) -> str:
        row = f"({', '.join('?' * self._width)})"
        return self._texts.setdefault(size, self._head + ", ".join([row] * size) + self._end)

    def _number(self, size: int) -> bytes:
        starts = range(1, size * self._width + 1, self._width)
        rows = [", ".join([f"${start + place}" for place in range(self._width)]) for start in starts]
        text = self._head + ", ".join([f"({row})" for row in rows]) + self._end
        return self._numbered.setdefault(size, text.encode())


def _raw_cursor(driver: Any) -> Any:
    """Make a cursor for statements with `$1`: those with `%s` and many rows psycopg parses at each execution."""
    from psycopg import RawCursor  # noqa: PLC0415 (SQLite does not load the driver)

    return RawCursor(driver)
