"""Rows go into PostgreSQL as they are, by few statements, and fail with the driver's errors."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, NullPool, create_engine, make_url

from app.storage.engine.database import is_conflict, is_outage
from app.storage.engine.statements import Insertion

_TABLE = "CREATE TABLE notes (title TEXT PRIMARY KEY, text TEXT, body BYTEA, size BIGINT, is_read BOOLEAN)"
_COLUMNS = ("title", "text", "body", "size", "is_read")


@pytest.fixture
def connection(empty_postgresql_url: str) -> Iterator[Connection]:
    url = make_url(empty_postgresql_url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=NullPool, connect_args={"autocommit": True, "prepare_threshold": None})
    with engine.connect() as connection:
        connection.exec_driver_sql(_TABLE)
        yield connection


def stored(connection: Connection, columns: str = "*") -> list[tuple[Any, ...]]:
    rows = connection.exec_driver_sql(f"SELECT {columns} FROM notes ORDER BY size, title").all()  # noqa: S608 (our own)
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    "row",
    [
        ("plain", "text", b"bytes", 1, True),
        ("empty", "", b"", 0, False),
        ("nothing", None, None, None, None),
        ("signs", "é 漢 😀 $1 %s ' \\ \n", bytes(range(256)), -(2**63), True),
        ("greatest", "x", b"\0", 2**63 - 1, False),
        ("large", "y" * 5_000_000, b"\xff" * 20_000_000, 7, True),
    ],
    ids=lambda row: row[0],
)
def test_every_value_is_read_as_it_was_given(connection: Connection, row: tuple[Any, ...]) -> None:
    Insertion("notes", _COLUMNS).execute(connection, [row])
    assert stored(connection) == [row]


def test_rows_go_in_by_statements_of_the_sizes_there_are(connection: Connection) -> None:
    insertion = Insertion("notes", ("title", "size"), (1, 8), " ON CONFLICT (title) DO UPDATE SET size = excluded.size")
    rows = [(f"note {number}", number) for number in range(27)]
    insertion.execute(connection, rows)
    insertion.execute(connection, [("note 26", 99)])
    assert stored(connection, "title, size") == [*rows[:26], ("note 26", 99)]
    assert set(insertion._numbered) == {1, 8}


def test_rows_of_one_statement_may_differ_in_what_they_leave_out(connection: Connection) -> None:
    rows = [("a", None, b"", 1, None), ("b", "text", None, 2**40, True), ("c", "", b"x", 3, False)]
    Insertion("notes", _COLUMNS).execute(connection, rows)
    assert sorted(stored(connection)) == rows


def test_a_conflict_is_the_drivers_error_and_the_connection_stays_of_use(connection: Connection) -> None:
    insertion = Insertion("notes", ("title",))
    insertion.execute(connection, [("same",)])
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        insertion.execute(connection, [("same",)])
    assert is_conflict(caught.value)
    insertion.execute(connection, [("other",)])
    assert len(stored(connection)) == 2


def test_a_connection_that_the_server_ended_is_an_outage(connection: Connection) -> None:
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    with connection.engine.connect() as other:
        other.exec_driver_sql("SELECT pg_terminate_backend(%s)", (pid,))
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError) as caught:
            Insertion("notes", ("title",)).execute(connection, [("lost",)])
        assert is_outage(caught.value)
    connection.invalidate()
