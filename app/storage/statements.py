"""The hot statements as text for the driver: SQLAlchemy's work on each execution would cost more than theirs."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect, Select, Table

# Rows in one statement: a power of two, within SQLite's 32,766 parameters. PostgreSQL plans every subquery in them, in
# more than linear time.
_ROWS_AT_ONCE = 256


class Query:
    """A SELECT of SQLAlchemy's, compiled once for each kind of database. Parameters go as they are."""

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, Sequence[str] | None]] = {}

    def execute(self, connection: Connection, parameters: Mapping[str, Any]) -> CursorResult[Any]:
        """Run it with these parameters, by their names."""
        text, order = self._compiled.get(connection.dialect.name) or self._compile(connection.dialect)
        given = parameters if order is None else tuple([parameters[name] for name in order])
        return connection.exec_driver_sql(text, given)

    def _compile(self, dialect: Dialect) -> tuple[str, Sequence[str] | None]:
        compiled: Any = self._statement.compile(dialect=dialect)
        return self._compiled.setdefault(dialect.name, (str(compiled), compiled.positiontup))


class Insertion:
    """INSERT … VALUES of any number of rows in few statements: a trip to the server, or to SQLite's lock, costs most.

    `values` has an expression for each column, with `?` for a parameter. What conflicts is left out.
    """

    def __init__(self, table: Table, values: Mapping[str, str]) -> None:
        self._row = f"({', '.join(values.values())})"
        self._head = f"INSERT INTO {table.name} ({', '.join(values)}) VALUES "  # noqa: S608 (names of our own)

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert these rows; return how many went in."""
        inserted = 0
        start = 0
        while start < len(rows):
            # Powers of two: few different texts, which SQLite's driver keeps prepared.
            size = min(1 << (len(rows) - start).bit_length() - 1, _ROWS_AT_ONCE)
            values = [value for row in rows[start : start + size] for value in row]
            inserted += connection.exec_driver_sql(self._text(connection, size), tuple(values)).rowcount
            start += size
        return inserted

    def _text(self, connection: Connection, size: int) -> str:
        text = self._head + ", ".join([self._row] * size) + " ON CONFLICT DO NOTHING"
        return text if connection.dialect.paramstyle == "qmark" else text.replace("?", "%s")
