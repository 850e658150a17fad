"""What is kept for long is found where it stands: the newest use of an item, a conversation's items, the sums of days.

Revision 0014; 2026-11-30.

A later migration that alters `usage_hours` drops the triggers of `usage_days` before, and creates them again after.
"""

from hashlib import sha256

import sqlalchemy as sa
from alembic import op

from app.storage.usage import daily_sums as usage_days

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# As app.storage.tables.storable_id makes an id that is looked up by.
_LONGEST_ID = 500
_ID_START = _LONGEST_ID - 64
_IDENTIFIED = {"responses": ("key",), "items": ("response_key", "position")}


def upgrade() -> None:
    _shorten_ids()
    op.create_index("ix_items_project_id_id_response_key", "items", ["project_id", "id", "response_key"])
    op.drop_index("ix_items_project_id_id", "items")
    op.create_index("ix_conversation_turns_conversation_key_key", "conversation_turns", ["conversation_key", "key"])
    op.drop_index("ix_conversation_turns_conversation_key", "conversation_turns")
    op.add_column("conversations", sa.Column("indexed_key", sa.BigInteger(), nullable=True))
    op.create_table(
        "conversation_items",
        sa.Column("conversation_key", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("turn_key", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("conversation_key", "id", name="pk_conversation_items"),
        sa.ForeignKeyConstraint(
            ["conversation_key"],
            ["conversations.key"],
            name="fk_conversation_items_conversation_key",
            ondelete="CASCADE",
        ),
        sqlite_with_rowid=False,
    )
    _index_stored("response_id", "project_id")
    _create_usage_days()


def downgrade() -> None:
    usage_days.drop(op.get_bind())
    op.drop_table("usage_days")
    _index_stored("project_id", "response_id")
    op.drop_table("conversation_items")
    op.execute("ALTER TABLE conversations DROP COLUMN indexed_key")
    op.create_index("ix_conversation_turns_conversation_key", "conversation_turns", ["conversation_key"])
    op.drop_index("ix_conversation_turns_conversation_key_key", "conversation_turns")
    op.create_index("ix_items_project_id_id", "items", ["project_id", "id"])
    op.drop_index("ix_items_project_id_id_response_key", "items")


def _index_stored(*columns: str) -> None:
    is_stored = sa.text("is_stored")
    op.drop_index("uq_usage_stored", "usage")
    op.create_index(
        "uq_usage_stored", "usage", columns, unique=True, sqlite_where=is_stored, postgresql_where=is_stored
    )


def _create_usage_days() -> None:
    connection = op.get_bind()
    hours = sa.Table("usage_hours", sa.MetaData(), autoload_with=connection)
    columns = [column for column in hours.columns if column.name != "hour"]
    names = ["day", *[column.name for column in hours.primary_key if column.name != "hour"]]
    op.create_table(
        "usage_days",
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        *[sa.Column(column.name, column.type, nullable=False) for column in columns],
        sa.PrimaryKeyConstraint(*names, name="pk_usage_days"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_usage_days_project_id_day", "usage_days", ["project_id", "day"])
    op.create_index("ix_usage_days_api_key_id_day", "usage_days", ["api_key_id", "day"])
    usage_days.create(connection)


def _shorten_ids() -> None:
    """Have ids that upstreams made too long for some indexes where they are looked up from now on."""
    connection = op.get_bind()
    for name, keys in _IDENTIFIED.items():
        table = sa.table(name, *map(sa.column, (*keys, "id")))
        key_columns = [table.c[key] for key in keys]
        too_long = sa.select(*key_columns, table.c.id).where(sa.func.length(table.c.id) > _LONGEST_ID)
        for *found, long_id in connection.execute(too_long).all():
            own = [column == value for column, value in zip(key_columns, found, strict=True)]
            hashed = sha256(long_id.encode(errors="surrogatepass")).hexdigest()
            connection.execute(sa.update(table).where(*own).values(id=long_id[:_ID_START] + hashed))
