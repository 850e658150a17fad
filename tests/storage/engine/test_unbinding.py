"""SQLite lets go of the row that was inserted last, and nothing is inserted by that."""

from sqlalchemy import create_engine

from app.storage.engine.statements import Insertion


def test_a_row_that_is_unbound_stays_inserted_once_and_the_next_goes_in() -> None:
    insertion = Insertion("notes", ("title", "text"))
    with create_engine("sqlite://").connect() as connection:
        connection.exec_driver_sql("CREATE TABLE notes (title TEXT, text TEXT)")
        insertion.execute(connection, [("long", "x" * 100_000)])
        insertion.unbind(connection)
        insertion.execute(connection, [("short", "y")])
        rows = connection.exec_driver_sql("SELECT title, length(text) FROM notes").all()
    assert [tuple(row) for row in rows] == [("long", 100_000), ("short", 1)]
