"""Create the view `turns`: a row inserted there becomes a response's row and its items' rows, in one statement.

The migrations create it from the columns that `responses` has then.
"""

from sqlalchemy import Connection, inspect

ITEM_IDS = "item_ids"
"""The view's own column: the ids of the turn's items as a JSON array, by position. It reads as NULL."""

_SQLITE = (
    """
CREATE TRIGGER turns_insert INSTEAD OF INSERT ON turns BEGIN
  INSERT INTO responses ({columns}) VALUES ({values});
  INSERT INTO items (response_key, position, project_id, id)
    SELECT last_insert_rowid(), item.key, NEW.project_id, item.value FROM json_each(NEW.item_ids) AS item;
END
""",
)

_POSTGRESQL = (
    """
CREATE FUNCTION insert_turn() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  turn_key BIGINT;
BEGIN
  INSERT INTO responses ({columns}) VALUES ({values}) RETURNING key INTO turn_key;
  INSERT INTO items (response_key, position, project_id, id)
    SELECT turn_key, item.number - 1, NEW.project_id, item.id
    FROM json_array_elements_text(CAST(NEW.item_ids AS json)) WITH ORDINALITY AS item (id, number);
  RETURN NEW;
END
$$
""",
    "CREATE TRIGGER turns_insert INSTEAD OF INSERT ON turns FOR EACH ROW EXECUTE FUNCTION insert_turn()",
)


def create(connection: Connection) -> None:
    """Create the view, with every column of `responses` but the key, which the database gives."""
    names = [column["name"] for column in inspect(connection).get_columns("responses") if column["name"] != "key"]
    columns, values = ", ".join(names), ", ".join(f"NEW.{name}" for name in names)
    view = f"CREATE VIEW turns AS SELECT {columns}, CAST(NULL AS TEXT) AS {ITEM_IDS} FROM responses"  # noqa: S608 (names of our own)
    for statement in (view, *(_SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL)):
        connection.exec_driver_sql(statement.format(columns=columns, values=values))


def drop(connection: Connection) -> None:
    """Drop the view, as a migration has to before it alters `responses`; it creates the view again afterwards."""
    connection.exec_driver_sql("DROP VIEW turns")
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("DROP FUNCTION insert_turn()")
