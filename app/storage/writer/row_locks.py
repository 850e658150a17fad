"""Lock the rows that writes will change before any of them is changed, in one order everywhere (ADR 24).

Two transactions that lock rows in opposite orders wait for each other until the database ends one of them. Here a
transaction either takes the free rows and waits for none, or waits for all of them table by table and key by key.
SQLite locks the whole file and needs no row locks.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection

from app.storage.engine.storable_text import storable, storable_id

LOCKED: Mapping[str, str] = MappingProxyType(
    {
        "limit_counts": "owner, name",
        "runs": "key",
        "conversations": "key",
        "responses": "key",
        "idempotency_keys": "key",
    }
)
"""The tables whose rows are locked, in the order of locking, each with the order of its rows."""


class Row(NamedTuple):
    """Name a row by its key, or by other unique columns. The row need not exist."""

    table: str
    columns: tuple[str, ...]
    values: tuple[Any, ...]


def keyed(table: str, key: int) -> Row:
    """Name the row with this key."""
    return Row(table, ("key",), (key,))


def named(table: str, project_id: str, name: str) -> Row:
    """Name a project's conversation, run or response by its id."""
    return Row(table, ("project_id", "id"), (storable(project_id), storable_id(name)))


def lock(connection: Connection, rows: Iterable[Row], *, waits: bool) -> Collection[Row]:
    """Lock the rows that exist, to the end of the transaction, and return them.

    Unless it `waits`, rows that another transaction has locked are left out, too.
    """
    wanted = frozenset(rows)
    found: set[Row] = set()
    for table, order in LOCKED.items():
        ways: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
        for row in wanted:
            if row.table == table:
                ways.setdefault(row.columns, []).append(row.values)
        if ways:
            found |= _lock(connection, table, order, ways, waits=waits)
    return found & wanted


def _lock(
    connection: Connection,
    table: str,
    order: str,
    ways: Mapping[tuple[str, ...], Sequence[tuple[Any, ...]]],
    *,
    waits: bool,
) -> set[Row]:
    # As text: SQLAlchemy would take longer to write it than the database to run it. The names are our own.
    names = list(chain.from_iterable(ways))
    asked = " OR ".join(_condition(columns, len(values)) for columns, values in ways.items())
    text = f"SELECT {', '.join(names)} FROM {table} WHERE {asked} ORDER BY {order} FOR UPDATE"  # noqa: S608 (idem)
    given = tuple(chain.from_iterable(chain.from_iterable(ways.values())))
    rows = connection.exec_driver_sql(text if waits else f"{text} SKIP LOCKED", given).all()
    found: set[Row] = set()
    start = 0
    for columns in ways:
        end = start + len(columns)
        found.update(Row(table, columns, tuple(row[start:end])) for row in rows)
        start = end
    return found


def _condition(columns: Sequence[str], count: int) -> str:
    mark = f"({', '.join(['%s'] * len(columns))})"
    return f"({', '.join(columns)}) IN ({', '.join([mark] * count)})"
