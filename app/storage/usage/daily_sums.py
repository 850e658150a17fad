"""Create the triggers that keep the sums of days equal to those of their hours, whoever writes or removes these.

The migrations create them from the columns that `usage_hours` has then. So a release that knows only the hours keeps
the sums of days as well.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, inspect

SECONDS_PER_DAY = 86_400

_OWN_KEY = ("project_id", "api_key_id", "model", "upstream")

_SQLITE = (
    "CREATE TRIGGER usage_days_insert AFTER INSERT ON usage_hours BEGIN {added}; END",
    "CREATE TRIGGER usage_days_update AFTER UPDATE ON usage_hours BEGIN {changed}; END",
    "CREATE TRIGGER usage_days_delete AFTER DELETE ON usage_hours BEGIN {removed}; {emptied}; END",
)
_POSTGRESQL = (
    """
CREATE FUNCTION sum_usage_day() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN {added};
  ELSIF TG_OP = 'UPDATE' THEN {changed};
  ELSE {removed}; {emptied};
  END IF;
  RETURN NULL;
END
$$
""",
    """
CREATE TRIGGER usage_days AFTER INSERT OR UPDATE OR DELETE ON usage_hours
  FOR EACH ROW EXECUTE FUNCTION sum_usage_day()
""",
)


def create(connection: Connection) -> None:
    """Create the triggers, and fill the sums of days from the existing hours."""
    sums = [
        column["name"]
        for column in inspect(connection).get_columns("usage_hours")
        if column["name"] not in {"hour", *_OWN_KEY}
    ]
    words = {
        "added": _add("NEW", sums, [f"NEW.{name}" for name in sums]),
        # The key of a sum does not change.
        "changed": _add("NEW", sums, [f"NEW.{name} - OLD.{name}" for name in sums]),
        "removed": _add("OLD", sums, [f"-OLD.{name}" for name in sums]),
        "emptied": _emptied(),
    }
    for statement in _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL:
        connection.exec_driver_sql(statement.format(**words))
    totals = ", ".join(f"SUM({name})" for name in sums)
    fill = (
        f"INSERT INTO usage_days ({_listed(('day', *_OWN_KEY, *sums))}) SELECT {_day('usage_hours')},"  # noqa: S608 (names of our own)
        f" {_listed(_OWN_KEY)}, {totals} FROM usage_hours GROUP BY 1, {_listed(_OWN_KEY)}"
    )
    connection.exec_driver_sql(fill)


def drop(connection: Connection) -> None:
    """Drop the triggers, as a migration has to before it alters `usage_hours` or `usage_days`."""
    if connection.dialect.name == "sqlite":
        for name in ("usage_days_insert", "usage_days_update", "usage_days_delete"):
            connection.exec_driver_sql("DROP TRIGGER " + name)
        return
    connection.exec_driver_sql("DROP TRIGGER usage_days ON usage_hours")
    connection.exec_driver_sql("DROP FUNCTION sum_usage_day()")


def _add(row: str, sums: Sequence[str], values: Iterable[str]) -> str:
    """Build the statement that adds these values to the day sums of a row, which is NEW or OLD."""
    own = [f"{row}.{name}" for name in _OWN_KEY]
    more = ", ".join(f"{name} = usage_days.{name} + excluded.{name}" for name in sums)
    return (
        f"INSERT INTO usage_days ({_listed(('day', *_OWN_KEY, *sums))})"  # noqa: S608 (names of our own)
        f" VALUES ({_day(row)}, {_listed([*own, *values])})"
        f" ON CONFLICT ({_listed(('day', *_OWN_KEY))}) DO UPDATE SET {more}"
    )


def _emptied() -> str:
    own = " AND ".join(f"{name} = OLD.{name}" for name in _OWN_KEY)
    return f"DELETE FROM usage_days WHERE day = {_day('OLD')} AND {own} AND requests = 0"  # noqa: S608 (names of our own)


def _day(row: str) -> str:
    # Not by %, which is the driver's mark for a parameter.
    return f"{row}.hour / {SECONDS_PER_DAY} * {SECONDS_PER_DAY}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
