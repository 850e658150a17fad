"""Run the migrations on the connection of `app.storage.schema_migration`, or on one of the alembic command's own."""

from alembic import context
from sqlalchemy import Connection

from app.storage.schema_migration import open_for_migration
from app.storage.tables import metadata


def _run(connection: Connection) -> None:
    # SQLite cannot alter most things in place: batch mode rebuilds the table. Its DDL does take part in transactions.
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


_connection = context.config.attributes.get("connection")
if _connection is not None:
    _run(_connection)
else:
    with open_for_migration(context.config.get_main_option("sqlalchemy.url") or "") as _connection:
        _run(_connection)
