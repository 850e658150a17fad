"""The hot statements as text for the driver: SQLAlchemy's work on each execution would cost more than theirs."""

import sqlite3
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Dialect, Select, literal_column

# A statement for each number of rows up to here, which SQLite's driver keeps prepared. Twice as many would take 40 MB.
MOST_ROWS = 64
FEW_SIZES = (1, 8, MOST_ROWS)
"""Statements for what is written in large numbers: few are kept prepared, where some more of them cost little."""


def unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column as no index has it: for a condition that a row is only checked by.

    PostgreSQL chooses between the indexes that conditions could go by from its statistics. Here it has no choice.
    """
    return column + literal_column("0" if isinstance(column.type, BigInteger) else "''", column.type)


class Query:
    """A SELECT of SQLAlchemy's, compiled once for each kind of database. Parameters go as they are."""

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, Sequence[str] | None]] = {}

    def fetch(self, connection: Connection, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows for these parameters, which are given by their names. Errors are the driver's own."""
        text, order = self._compiled.get(connection.dialect.name) or self._compile(connection.dialect)
        given = parameters if order is None else tuple([parameters[name] for name in order])
        driver: Any = connection.connection.driver_connection
        rows: list[tuple[Any, ...]] = driver.execute(text, given).fetchall()
        return rows

    def _compile(self, dialect: Dialect) -> tuple[str, Sequence[str] | None]:
        compiled: Any = self._statement.compile(dialect=dialect)
        return self._compiled.setdefault(dialect.name, (str(compiled), compiled.positiontup))


class Insertion:
    """INSERT … VALUES of up to MOST_ROWS rows in one statement: a trip to the server, or to SQLite's lock, costs most.

    `sizes` are the numbers of rows that a statement may have, from 1 up, and `end` is what follows its rows. The driver
    runs it, and its errors are the driver's own: the less this thread needs of the interpreter, which it shares, the
    better.
    """

    def __init__(
        self, table: str, columns: Sequence[str], sizes: Sequence[int] = range(1, MOST_ROWS + 1), end: str = ""
    ) -> None:
        self._sizes = sizes
        self._end = end
        # All but the last of a row, which nothing can be bound to.
        self._unbound = (*[None] * (len(columns) - 1), object())
        self._head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608 (names of our own)
        self._marks = {
            style: f"({', '.join([mark] * len(columns))})" for style, mark in (("qmark", "?"), ("pyformat", "%s"))
        }
        self._texts: dict[tuple[str, int], str] = {}

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert these rows; more than MOST_ROWS need a transaction around them."""
        driver: Any = connection.connection.driver_connection
        style = connection.dialect.paramstyle
        start = 0
        while left := len(rows) - start:
            size = self._sizes[bisect_right(self._sizes, left) - 1]
            text = self._texts.get((style, size)) or self._text(style, size)
            driver.execute(text, tuple(chain.from_iterable(rows[start : start + size])))
            start += size

    def unbind(self, connection: Connection) -> None:
        """Free the one row that was inserted last, which SQLite holds until its statement is bound to another."""
        if connection.dialect.paramstyle == "qmark":
            driver: Any = connection.connection.driver_connection
            # What is refused here has been bound up to its last value, and does not run.
            with suppress(sqlite3.Error):
                driver.execute(self._text("qmark", 1), self._unbound)

    def _text(self, style: str, size: int) -> str:
        return self._texts.setdefault((style, size), self._head + ", ".join([self._marks[style]] * size) + self._end)
